"use strict";
// What the page does: shows the answers to read, finds and filters them, marks what a policy says that the one it is
// compared with did not, and copies commands. Whatever models and data say goes through textContent, and nothing through
// innerHTML.

const PAGE = 10; // prompts at a time: what stands in the document stays small, of however many
const LONG = 4000; // characters of a text that are shown before one asks for the rest
const CELLS = 1e6; // of a table of two answers' words, or lines, above which they are not compared by them
const SHOW = ["all", "gained", "lost", "unchanged", "right", "wrong", "cut off"];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null)); // text as text nodes
  return made;
}

function words(text) {
  return text.match(/[\p{L}\p{N}\p{M}_]+|\s+|[^]/gu) ?? [];
}

// A text's lines, and of a line its sentences, each with what ends it.
function lines(text) {
  return text.match(/[^\n.!?]*[\n.!?]+|[^\n.!?]+$/g) ?? [];
}

// A longest common subsequence of two lists, as pairs of places; null where the table for it would be too large.
function matched(old, now) {
  const pairs = [], ends = [];
  let start = 0, end = 0;
  const least = Math.min(old.length, now.length);
  for (; start < least && old[start] === now[start]; start++) pairs.push([start, start]);
  for (; end < least - start && old.at(-1 - end) === now.at(-1 - end); end++)
    ends.unshift([old.length - 1 - end, now.length - 1 - end]);
  const high = old.length - end - start, wide = now.length - end - start + 1;
  if (high * (wide - 1) > CELLS) return null;
  const common = new Uint16Array((high + 1) * wide); // of what follows each pair of places
  for (let i = high - 1; i >= 0; i--)
    for (let j = wide - 2; j >= 0; j--)
      common[i * wide + j] = old[start + i] === now[start + j]
        ? common[(i + 1) * wide + j + 1] + 1
        : Math.max(common[(i + 1) * wide + j], common[i * wide + j + 1]);
  for (let i = 0, j = 0; i < high && j < wide - 1; )
    if (old[start + i] === now[start + j]) pairs.push([start + i++, start + j++]);
    else if (common[(i + 1) * wide + j] >= common[i * wide + j + 1]) i++;
    else j++;
  return [...pairs, ...ends];
}

// An answer in runs, [text, whether the one before does not have it]: by words, of long ones by lines first and within
// those that differ by words. `rough`: lines are marked whole, or (`null`) nothing is, as there is too much to compare.
function compared(before, now) {
  const runs = [];
  const add = (parts, news) => parts.forEach((part, at) => {
    if (runs.length && runs.at(-1)[1] === news[at]) runs.at(-1)[0] += part;
    else runs.push([part, news[at]]);
  });
  const by = (old, parts) => {
    const pairs = matched(old, parts), news = new Array(parts.length).fill(true);
    if (pairs) for (const [, at] of pairs) news[at] = false;
    return pairs && (add(parts, news), true);
  };
  if (by(words(before), words(now))) return { runs, rough: false };
  const olds = lines(before), parts = lines(now), pairs = matched(olds, parts);
  if (!pairs) return { runs: [[now, false]], rough: null };
  let i = 0, j = 0, rough = false;
  for (const [old, at] of [...pairs, [olds.length, parts.length]]) {
    const changed = parts.slice(j, at);
    if (changed.length && !by(words(olds.slice(i, old).join("")), words(changed.join("")))) {
      add(changed, changed.map(() => true));
      rough = true;
    }
    add(parts.slice(at, at + 1), [false]);
    [i, j] = [old + 1, at + 1];
  }
  return { runs, rough };
}

// A text in a box of its own direction, what is new in it marked; of a long one the beginning, until one asks for it.
function said(text, before, note) {
  const box = element("blockquote", { className: "said", dir: "auto", textContent: text.slice(0, LONG) });
  if (text.length > 400) box.tabIndex = 0; // it scrolls, by keys too
  let marks = [[text, false]];
  const show = (most) => {
    let left = most;
    box.replaceChildren(...marks.map(([run, fresh]) => {
      const part = run.slice(0, left);
      left -= part.length;
      return fresh && part.trim() ? element("mark", { textContent: part }) : part;
    }).filter((part) => part !== ""));
  };
  const more = element("button", { type: "button", textContent: `all ${text.length.toLocaleString("en")} characters` });
  box.mark = () => {
    box.mark = null; // once
    if (before === null || before === text) return;
    const { runs, rough } = compared(before, text);
    marks = runs;
    if (rough !== false) note(rough ? "in part marked by lines, too long to compare" : "too long to compare");
    show(more.onclick ? LONG : Infinity);
    if (!box.querySelector("mark") && runs.some(([, fresh]) => fresh)) more.textContent += ", marked further on";
  };
  if (text.length <= LONG) return box;
  more.onclick = () => {
    more.onclick = null;
    show(Infinity);
    more.remove();
  };
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

// Whether a prompt is shown of which a policy, and the one that it is compared with (or null), have given these answers.
function holds(show, given, at, against) {
  if (show === "all") return true;
  if (show === "cut off") return given[at].some((answer) => !answer.ended);
  const now = share(given[at]);
  if (now === null) return false;
  if (show === "right" || show === "wrong") return now === (show === "right" ? 1 : 0);
  const before = against === null ? null : share(given[against]);
  if (before === null) return false;
  return show === "gained" ? now > before : show === "lost" ? now < before : now === before;
}

function reader(root, number) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const { policies, before: against } = data, prompts = unpack(data), place = `reader-${number}`;
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
        target.querySelectorAll(".said").forEach((box) => box.mark?.());
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
      const before = state.kind === "greedy" && against[at] !== null ? given[against[at]][0]?.text ?? null : null;
      return element("div", { className: "given" }, head, ...answers.flatMap((answer) => {
        const told = element("small", {}, alone ? null : judged(answer.right), ` ${facts(answer)}`);
        return [element("div", {}, said(answer.text, before, (more) => told.append(` · ${more}`))), told];
      }));
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
    found = searched.filter((prompt) => alone || holds(state.show, prompt[state.kind], at, against[at]));
    for (const option of show.options) {
      const many = searched.filter((prompt) => holds(option.value, prompt[state.kind], at, against[at])).length;
      option.textContent = `${option.value} (${many})`;
    }
    Object.assign(search, { value: state.q });
    for (const control of [stage, show, kind]) control.value = state[control.name];
    const first = Math.min(Number(state.page) - 1, Math.max(0, Math.ceil(found.length / PAGE) - 1)) * PAGE;
    const part = found.slice(first, first + PAGE);
    count.textContent = `${found.length.toLocaleString("en")} of ${prompts.length.toLocaleString("en")} prompts`;
    const pairs = policies.flatMap((policy, one) => against[one] === null ? [] : [[policy, policies[against[one]]]]);
    pairs.forEach(([policy, other], one) => count.append(one ? ", " : "; ", element("bdi", { textContent: policy }),
      one ? " with " : " is compared with ", element("bdi", { textContent: other })));
    if (pairs.length && state.kind === "greedy") count.append("; marked is what that one does not say");
    if (alone) count.append("; ", element("a", { href: `#${place}`, textContent: "all" }));
    seen.disconnect();
    list.replaceChildren(...part.map(card));
    pages.hidden = found.length <= PAGE;
    where.textContent = found.length
      ? `${first + 1} to ${first + part.length} of ${found.length.toLocaleString("en")}` : "";
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
