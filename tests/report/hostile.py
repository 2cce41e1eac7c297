"""What models and data may say, that a page or Markdown could take for more than text."""

from __future__ import annotations

from llmrl.report.document import (
    Asked,
    Chart,
    Command,
    Given,
    Grid,
    Heading,
    Quote,
    Quotes,
    Reader,
    Report,
    Section,
    Words,
)

RUN = "document.title='run'"
TEXTS = {
    "script": f"<script>{RUN}</script>",
    "picture": f'<img src="http://127.0.0.1:9/x.png" onerror="{RUN}">',
    "end": f"</script></title></textarea>--><script>{RUN}</script><!-- ]]>",
    "link": f'<a href="javascript:{RUN}">here</a> <iframe src="http://127.0.0.1:9/frame"></iframe>',
    "drawing": f'<svg onload="{RUN}"><style>body{{display:none}}</style></svg>',
    "attribute": f'" onmouseover="{RUN}" autofocus onfocus="{RUN}',
    "entity": "&lt;b&gt; &amp; &#60;script&#62; &notin;",
    "template": "{{ 7*7 }} {% raw %} ${RUN} \\u003cscript\\u003e",
    "markdown": "# Heading\n- [ ] item\n[link](http://127.0.0.1:9) ![picture](http://127.0.0.1/y.png) **b** `code`",
    "github": "@octocat #12 GH-12 octo/cat#12 :tada: http://127.0.0.1:9 www.example.org a@example.org $x_1$ ~~gone~~",
    "fence": "```\nout of the fence\n````\n<b>",
    "cell": "a | b \\| c \\",
    "right to left": "שלום, world: مرحبا",
    "override": "abc \u202edlrow\u202c \u2067isolate",
    "unclosed": "\u202e\u2066\u202b",
    "control": "nul\0 escape\x1b[31m bell\x07 return\r delete\x7f next\x85",
    "surrogate": "half \ud83d of a pair",
    "separator": "line\u2028paragraph\u2029end",
    "emoji": "👩🏽\u200d🔬 🏳\ufe0f\u200d🌈 e\u0301",
    "blank": "  two\n\n\tlines ",
    "long": "word " * 20_000,
}


def given(policy: str, text: str, right: bool | None = True, **more: object) -> Given:
    """A greedy answer."""
    fields = {"greedy": True, "tokens": 3, "ended": True, "score": -0.5} | more
    return Given(policy, text, right, **fields)  # type: ignore[arg-type]


def report() -> Report:
    """A report that has every one of these texts in every kind of block."""
    texts = list(TEXTS.values())
    chart = {
        "data": {
            "values": [{"x": at, "y": at, "name": text[:40]} for at, text in enumerate(texts) if text.isprintable()]
        },
        "mark": {"type": "line", "clip": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": {"field": "y", "type": "quantitative"},
            "color": {"field": "name", "type": "nominal"},
        },
    }
    short = [text[:300] for text in texts]
    blocks = [
        *map(Words, short),
        *map(Heading, short),
        *(Command(text, text) for text in short),
        Grid(
            ["name", *short[:3]], [[name, text, "1.0", text] for name, text in zip(TEXTS, short, strict=True)], short[0]
        ),
        Grid(["name", "text"], [[text, text] for text in short], short[1], folded=True),
        *(Chart(text, chart, text) for text in short[:2]),
        Quotes(texts[0], [Quote(text, short[at], short[at]) for at, text in enumerate(texts)]),
    ]
    policies = ["base", short[0]]
    prompts = [Asked(text, text[:300], [given(policy, text) for policy in policies]) for text in texts]
    return Report(
        short[0],
        short[2],
        [
            Section("outcome", short[0], blocks, of=short[4]),
            Section("reading", short[1], [Reader(policies, prompts, before={policies[1]: policies[0]})], of=short[4]),
        ],
    )
