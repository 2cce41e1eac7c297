"""A Hub on 127.0.0.1 that answers what the locked client asks, as the real one does.

    GET   /api/datasets/<name>[/revision/<revision>]        its commit
    GET   /api/datasets/<name>/tree/<commit>?recursive=…    its files, some a page, the next in a Link header
    HEAD  /datasets/<name>/resolve/<commit>/<path>          a redirect: of small files within the Hub, with git's hash
    GET                                                     as ETag; of large ones to a store that may not see the token
    GET   /store/<sha256>                                   a large file, or a Range of it

or, with `xet`, as most repositories are kept now, from a store of chunks:

    GET   /xet-token                                        where that is, and a token for it alone
    GET   /v1/reconstructions/<hash>                        which chunks make a file, and where they are
    GET   /chunks/<hash>                                    them

Models are at the same paths without `datasets`. `fail` has it answer as it does when something is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PAGE = 3  # files
CHUNK = 2**16  # bytes
OF_XET = "a token of the store's own"
LARGE = (".parquet", ".safetensors", ".bin")  # what is stored apart
PATH = re.compile(r"/(?:api/)?(datasets/|models/)?(.+?)/(tree|revision|resolve|resolve-cache)/([^/]+)(?:/(.+))?")


@dataclass
class Repository:
    """Its commits, newest last; with a token, private."""

    commits: dict[str, dict[str, bytes]]
    token: str | None = None
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A revision's commit and files."""
        commit = self.branches.get(revision, [*self.commits][-1] if revision == "main" else revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class Server:
    """A running Hub, with what it was asked and how it is to fail."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}  # by datasets/<name> or models/<name>
        self.asked: list[str] = []
        self.failures: dict[str, str] = {}  # by what is asked for: tree, resolve, store or revision
        self.to_the_store: set[str | None] = set()  # tokens it was shown
        self.xet = False
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    @property
    def elsewhere(self) -> str:
        """Another host to the client: no token of the Hub's may go there."""
        return f"http://localhost:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def fail(self, where: str, how: str) -> None:
        """Answer requests of one kind with a fault."""
        self.failures[where] = how


def sha1(content: bytes) -> str:
    """What git calls the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(content: bytes) -> bytes:
    """A file as chunks of Xet: version, size as sent, compression (none), size, and the bytes."""
    pieces = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
    sizes = [len(piece).to_bytes(3, "little") for piece in pieces]
    return b"".join(b"\0" + size + b"\0" + size + piece for size, piece in zip(sizes, pieces, strict=True))


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if path == "/api/agent-harnesses":  # the client's list of what may be running it; it keeps that for a day
            return self.json({"standardEnvVars": [], "harnesses": {}})
        if path == "/xet-token":
            store = {"X-Xet-Cas-Url": self.hub.endpoint, "X-Xet-Access-Token": OF_XET}
            return self.answer(200, b"{}", store | {"X-Xet-Token-Expiration": str(2**40)})
        if match := re.fullmatch("/(store|v1/reconstructions|chunks)/(.+)", path):
            self.hub.to_the_store.add(self.headers.get("Authorization"))
            content = self.content(match[2])
            return {"store": self.stored, "chunks": self.chunks}.get(match[1], self.reconstruction)(content)
        found = PATH.fullmatch(path) or PATH.fullmatch(f"{path}/revision/main")
        if not found:
            return self.answer(404)
        kind, name, what, revision, file = found.groups()
        if self.failed(what):
            return None
        repository = self.hub.repositories.get(f"{kind or 'models/'}{name}")
        if repository is None:  # the real Hub does not tell a stranger what it has not
            known = self.headers.get("Authorization") is not None
            return self.refuse(404 if known else 401, "RepoNotFound", "Repository not found")
        if repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            if repository.gated:
                return self.refuse(401 if "Authorization" not in self.headers else 403, "GatedRepo", "It is restricted")
            return self.refuse(401, "RepoNotFound", "Repository not found")
        at = repository.files(revision)
        if at is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = at
        if what == "revision":
            return self.json({"id": name, "sha": commit, "siblings": [], "private": bool(repository.token)})
        if what == "tree":
            return self.tree(files)
        if file not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        return self.resolved(what, path, commit, file, files[file])

    do_HEAD = do_GET  # noqa: N815

    def tree(self, files: dict[str, bytes]) -> None:
        """A page of the list of files."""
        start = int((re.search(r"cursor=(\d+)", self.path) or [0, 0])[1])
        entries = []
        for path, content in sorted(files.items())[start : start + PAGE]:
            entry = {"type": "file", "path": path, "size": len(content), "oid": sha1(content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 133}
            entries.append(entry)
        after = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=True&cursor={start + PAGE}"
        self.json(entries, {"Link": f'<{after}>; rel="next"'} if start + PAGE < len(files) else {})

    def resolved(self, what: str, path: str, commit: str, file: str, content: bytes) -> None:
        """Where a file is, or the file."""
        if file.endswith(LARGE):
            headers = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            headers |= {
                "X-Repo-Commit": commit,
                "Location": f"{self.hub.elsewhere}/store/{sha256(content)}?signature=abc",
            }
            if self.hub.xet:
                headers |= {"X-Xet-Hash": sha256(content), "X-Xet-Refresh-Route": f"{self.hub.endpoint}/xet-token"}
            self.answer(302, headers=headers)
        elif what == "resolve":
            kind = "" if path.startswith("/datasets/") else "models/"
            location = f"/api/{kind}{path[1:]}".replace("/resolve/", "/resolve-cache/")
            self.answer(307, headers={"X-Repo-Commit": commit, "Location": location})
        else:
            self.answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{sha1(content)}"'})

    def content(self, name: str) -> bytes:
        """The file of this sha256."""
        contents = (
            content
            for one in self.hub.repositories.values()
            for files in one.commits.values()
            for content in files.values()
        )
        return next(content for content in contents if sha256(content) == name)

    def reconstruction(self, content: bytes) -> None:
        """All chunks of the file, in one piece."""
        name, chunks, sent = sha256(content), -(-len(content) // CHUNK), len(packed(content))
        every, url = {"range": {"start": 0, "end": chunks}}, f"{self.hub.elsewhere}/chunks/{name}"
        piece = every | {"url": url, "url_range": {"start": 0, "end": sent - 1}}
        terms = [every | {"hash": name, "unpacked_length": len(content)}]
        self.json({"offset_into_first_range": 0, "terms": terms, "fetch_info": {name: [piece]}})

    def chunks(self, content: bytes) -> None:
        if self.hub.failures.get("store") == "altered":
            content = content[:-1] + b"!"
        sent = packed(content)
        self.answer(206, sent, {"Content-Range": f"bytes 0-{len(sent) - 1}/{len(sent)}"})

    def stored(self, content: bytes) -> None:
        """A large file, or what is asked of it."""
        if self.failed("store", content):
            return
        start = int((re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        if start:
            self.answer(206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})
        else:
            self.answer(200, content)

    def failed(self, where: str, content: bytes = b"") -> bool:
        """Whether the request was answered with a fault."""
        how = self.hub.failures.get(where)
        match how:
            case None:
                return False
            case "dropped":
                self.close_connection = True
            case "cut":  # once half of it was sent
                self.answer(200, content[: len(content) // 2], {"Content-Length": str(len(content))})
                self.close_connection = True
            case "cut once":
                del self.hub.failures[where]
                self.answer(200, content[: len(content) // 2], {"Content-Length": str(len(content))})
                self.close_connection = True
            case "truncated":
                self.answer(200, content[: len(content) // 2])
            case "altered":
                self.answer(200, content[:-1] + b"!")
            case "401":
                self.refuse(401, None, "Invalid credentials in Authorization header")
            case "403":
                self.refuse(403, None, "Forbidden")
            case _:
                self.answer(int(how), b"{}")
        return True

    def refuse(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(status, json.dumps({"error": message}).encode(), named | (headers or {}))

    def json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
