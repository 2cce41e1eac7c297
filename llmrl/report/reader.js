"use strict";
// What the page does: shows the answers to read, finds and filters them, marks what a policy says that the one before
// did not, and copies commands. Whatever models and data say goes through textContent, and nothing through innerHTML.

const PAGE = 10; // prompts at a time: what stands in the document stays small, of however many
const LONG = 4000; // characters of a text that are shown before one asks for the rest
const CELLS = 1e6; // of a table of two answers' words, above which they are not compared word by word
const SHOW = ["all", "gained", "lost", "unchanged", "right", "wrong", "cut off"];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null)); // text as text nodes
  return made;
}

// Which words of an answer the one before does not have: by their longest common subsequence, a row of it at a time.
function words(text) {
  return text.match(/[\p{L}\p{N}\p{M}_]+|\s+|[^]/gu) ?? [];
}

function fresh(before, now) {
  let start = 0, end = 0;
  while (start < now.length && now[start] === before[start]) start++;
  while (end < Math.min(now.length, before.length) - start && now.at(-1 - end) === before.at(-1 - end)) end++;
  const old = before.slice(start, before.length - end), news = now.slice(start, now.length - end);
  const marks = new Array(now.length).fill(false).fill(true, start, now.length - end);
  const wide = old.length + 1;
  if (old.length * news.length > CELLS) return marks;
  const common = new Uint16Array((news.length + 1) * wide); // of what follows each pair of words
  for (let i = news.length - 1; i >= 0; i--)
    for (let j = old.length - 1; j >= 0; j--)
      common[i * wide + j] = news[i] === old[j]
        ? common[(i + 1) * wide + j + 1] + 1
        : Math.max(common[(i + 1) * wide + j], common[i * wide + j + 1]);
  for (let i = 0, j = 0; i < news.length && j < old.length; )
    if (news[i] === old[j]) marks[start + i++] = j++ < 0;
    else if (common[(i + 1) * wide + j] >= common[i * wide + j + 1]) i++;
    else j++;
  return marks;
}

// A text in a box of its own direction, what is new in it marked; of a long one the beginning, until one asks for it.
function said(text, before = null, whole = false) {
  const part = whole || text.length <= LONG ? text : text.slice(0, LONG);
  const box = element("blockquote", { className: "said", dir: "auto", textContent: part });
  if (text.length > 400) box.tabIndex = 0; // it scrolls, by keys too
  box.mark = () => {
    if (before === null || before === text) return;
    const now = words(part), marks = fresh(words(before.slice(0, LONG)), now), parts = [];
    for (let at = 0, to; at < now.length; at = to) {
      for (to = at + 1; to < now.length && marks[to] === marks[at]; to++);
      const run = now.slice(at, to).join("");
      parts.push(marks[at] && run.trim() ? element("mark", { textContent: run }) : run);
    }
    box.replaceChildren(...parts);
  };
  if (part === text) return box;
  const more = element("button", { type: "button", textContent: `all ${text.length.toLocaleString("en")} characters` });
  more.onclick = () => more.parentNode.replaceChildren(said(text, null, true));
  return element("div", {}, box, more);
}

function judged(right) {
  if (right === null) return null;
  return element("span", { className: right ? "right" : "wrong", textContent: right ? "✓ right" : "✗ wrong" });
}

function facts(answer) {
  const said = [`${answer.tokens} tokens`];
  if (!answer.ended) said.push("cut off");
  if (answer.score !== null) said.push(`score ${answer.score.toFixed(2).replace("-", "−")}`);
  return said.join(" · ");
}

// The answers of a prompt, an array a policy, greedy or sampled.
function unpack({ policies, prompts }) {
  return prompts.map(([prompt, solution, answers], row) => {
    const kinds = { greedy: policies.map(() => []), sampled: policies.map(() => []) };
    for (const [policy, greedy, right, tokens, ended, score, text] of answers)
      kinds[greedy ? "greedy" : "sampled"][policy].push({ right, tokens, ended, score, text });
    return { row, prompt, solution, ...kinds, text: {} };
  });
}

// The share of a policy's answers that are right; null where nothing is judged.
function share(answers) {
  const right = answers.filter((answer) => answer.right !== null);
  return right.length ? right.filter((answer) => answer.right).length / right.length : null;
}

function holds(show, given, at) {
  if (show === "all") return true;
  if (show === "cut off") return given[at].some((answer) => !answer.ended);
  const now = share(given[at]);
  if (now === null) return false;
  if (show === "right" || show === "wrong") return now === (show === "right" ? 1 : 0);
  const before = at > 0 ? share(given[at - 1]) : null;
  if (before === null) return false;
  return show === "gained" ? now > before : show === "lost" ? now < before : now === before;
}

function reader(root, number) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const { policies } = data, prompts = unpack(data), place = `reader-${number}`;
  const empty = { q: "", stage: String(policies.length - 1), show: "all", kind: "greedy", page: "1", row: "" };
  let state = { ...empty }, found = [];
  root.id = place;

  const search = element("input", { type: "search", name: "q", autocomplete: "off", spellcheck: false });
  const select = (name, options) =>
    element("select", { name }, ...options.map(([value, text]) => element("option", { value, textContent: text })));
  const stage = select("stage", policies.map((policy, at) => [at, policy]));
  const show = select("show", SHOW.map((value) => [value, value]));
  const kind = select("kind", [["greedy", "greedy"], ["sampled", "sampled"]]);
  const label = (text, control, className = "") => element("label", { className }, text, control);
  const controls = element("form", { className: "controls", role: "search" },
    label("Find in prompts and answers", search, "wide"), label("Policy", stage), label("Prompts", show),
    label("Answers", kind));
  const count = element("p", { className: "count", role: "status" });
  const list = element("div");
  const button = (text, by) => element("button", { type: "button", textContent: text, onclick: () => turn(by) });
  const back = button("Back", -1), on = button("More", 1), where = element("span");
  const pages = element("div", { className: "pages" }, back, where, on);
  root.append(controls, count, list, pages);

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting) {
        seen.unobserve(target);
        target.querySelectorAll(".said").forEach((box) => box.mark());
        highlight();
      }
  }, { rootMargin: "400px" });

  function text(prompt) {
    const answers = prompt[state.kind].flat().map((answer) => answer.text);
    return (prompt.text[state.kind] ??= [prompt.prompt, prompt.solution ?? "", ...answers].join("\n").toLowerCase());
  }

  function card(prompt) {
    const link = element("a", { href: `#${place}?row=${prompt.row}`, textContent: prompt.row + 1 });
    link.setAttribute("aria-label", `prompt ${prompt.row + 1} alone`);
    const given = prompt[state.kind];
    const columns = policies.map((policy, at) => {
      const answers = given[at], alone = answers.length === 1;
      const head = element("p", { className: "by" }, element("b", {}, element("bdi", { textContent: policy })), " ");
      if (!answers.length) head.append("no answer");
      else if (alone) head.append(judged(answers[0].right) ?? "");
      else if (share(answers) !== null)
        head.append(`${answers.filter((answer) => answer.right).length} of ${answers.length} right`);
      const before = state.kind === "greedy" && at > 0 ? given[at - 1][0]?.text ?? null : null;
      return element("div", { className: "given" }, head, ...answers.flatMap((answer) => [
        element("div", {}, said(answer.text, before)),
        element("small", {}, alone ? null : judged(answer.right), ` ${facts(answer)}`),
      ]));
    });
    const solution = prompt.solution === null ? null
      : element("p", { className: "solution" }, "solution ", element("bdi", { textContent: prompt.solution }));
    const asked = element("div", { dir: "auto", textContent: prompt.prompt });
    const made = element("article", { className: "asked" }, element("div", { className: "prompt" }, link, asked),
      solution, element("div", { className: "row" }, ...columns));
    seen.observe(made);
    return made;
  }

  // The registry of highlights leaves the texts as they are (CSS Custom Highlight API); a browser without shows none.
  function highlight() {
    if (!("highlights" in CSS)) return;
    CSS.highlights.delete("found");
    const wanted = state.q.toLowerCase(), ranges = [];
    const walker = document.createTreeWalker(list, NodeFilter.SHOW_TEXT);
    for (let node; wanted && ranges.length < 2000 && (node = walker.nextNode()); ) {
      const lower = node.data.toLowerCase();
      if (lower.length !== node.data.length) continue; // of some letters: another place
      for (let at = -1; (at = lower.indexOf(wanted, at + 1)) >= 0; ) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + wanted.length);
        ranges.push(range);
      }
    }
    if (ranges.length) CSS.highlights.set("found", new Highlight(...ranges));
  }

  function render() {
    const wanted = state.q.toLowerCase(), at = Number(state.stage), alone = state.row !== "";
    const searched = prompts.filter((prompt) => alone ? prompt.row === Number(state.row)
      : !wanted || text(prompt).includes(wanted));
    found = searched.filter((prompt) => alone || holds(state.show, prompt[state.kind], at));
    for (const option of show.options) {
      const many = searched.filter((prompt) => holds(option.value, prompt[state.kind], at)).length;
      option.textContent = `${option.value} (${many})`;
    }
    Object.assign(search, { value: state.q });
    for (const control of [stage, show, kind]) control.value = state[control.name];
    const first = Math.min(Number(state.page) - 1, Math.max(0, Math.ceil(found.length / PAGE) - 1)) * PAGE;
    const part = found.slice(first, first + PAGE);
    count.textContent = `${found.length.toLocaleString("en")} of ${prompts.length.toLocaleString("en")} prompts`;
    if (state.kind === "greedy") count.append("; marked is what the answer before it does not have");
    if (alone) count.append("; ", element("a", { href: `#${place}`, textContent: "all" }));
    seen.disconnect();
    list.replaceChildren(...part.map(card));
    pages.hidden = found.length <= PAGE;
    where.textContent = `${first + 1} to ${first + part.length} of ${found.length.toLocaleString("en")}`;
    back.disabled = first === 0;
    on.disabled = first + PAGE >= found.length;
    highlight();
  }

  function remember() {
    const changed = Object.entries(state).filter(([name, value]) => value !== empty[name]);
    const query = new URLSearchParams(changed).toString();
    history.replaceState(null, "", query ? `#${place}?${query}` : `#${place}`);
  }

  function turn(by) {
    state = { ...state, page: String(Number(state.page) + by) };
    remember();
    render();
    root.scrollIntoView();
  }

  function recall(scroll) {
    const [at, query = ""] = location.hash.slice(1).split("?");
    if (at !== place) return;
    const asked = Object.fromEntries(new URLSearchParams(query));
    state = { ...empty, ...asked };
    if (!SHOW.includes(state.show)) state.show = empty.show;
    if (!(state.stage in policies)) state.stage = empty.stage;
    if (!["greedy", "sampled"].includes(state.kind)) state.kind = empty.kind;
    if (!(Number(state.page) >= 1)) state.page = "1";
    render();
    if (scroll) root.scrollIntoView();
  }

  controls.oninput = () => {
    state = { ...empty, q: search.value, stage: stage.value, show: show.value, kind: kind.value };
    remember();
    render();
  };
  controls.onsubmit = (event) => event.preventDefault();
  addEventListener("hashchange", () => recall(true));
  render();
  recall(true);
}

document.querySelectorAll(".reader").forEach((root, at) => reader(root, at + 1));

document.querySelectorAll(".commands dd").forEach((line) => {
  const code = line.querySelector("code");
  const copy = element("button", { type: "button", textContent: "copy" });
  copy.onclick = async () => {
    getSelection().selectAllChildren(code); // to copy by hand, where a page may not
    await navigator.clipboard?.writeText(code.textContent).then(() => (copy.textContent = "copied"), () => {});
  };
  line.append(copy);
});

// On paper nothing can be unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((one) => (one.open = true));
  document.querySelectorAll(".said").forEach((box) => box.mark?.());
});
addEventListener("afterprint", () => folded.forEach((one) => (one.open = false)));
