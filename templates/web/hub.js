// The pages work without this file; with it the catalogue filters while one types, and
// snippets and digests can be copied.
"use strict";

const FIELDS = ["q", "architecture", "resolution", "head"];

// One place that screen readers listen to.
const spoken = document.createElement("span");
spoken.className = "unseen";
spoken.setAttribute("role", "status");
document.querySelector("main").append(spoken);

async function copy(source, button) {
  const text = source.textContent.replace(/\n$/, "");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https browsers offer this way only.
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    if (!document.execCommand("copy")) {
      return;
    }
    selection.removeAllRanges();
  }
  button.textContent = "Copied";
  spoken.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
    spoken.textContent = "";
  }, 2000);
}

function copyButton(source, what) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy the ${what}`);
  button.addEventListener("click", () => copy(source, button));
  return button;
}

function addCopyButtons(root) {
  for (const pre of root.querySelectorAll("pre")) {
    const frame = document.createElement("div");
    frame.className = "copyable";
    pre.replaceWith(frame);
    frame.append(pre, copyButton(pre, "snippet"));
  }
  for (const digest of root.querySelectorAll(".digest")) {
    digest.after(copyButton(digest, "digest"));
  }
}

function matches(card, wanted) {
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  return (
    words.every((word) => card.dataset.text.includes(word)) &&
    FIELDS.slice(1).every((name) => !wanted[name] || wanted[name] === card.dataset[name])
  );
}

function filterAsOneTypes(form) {
  const list = document.getElementById("cards");
  let complete = form.dataset.complete === "yes";

  const values = () =>
    Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value.trim()]));

  async function bringAll() {
    const response = await fetch(form.action);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    list.replaceChildren(...page.getElementById("cards").children);
    addCopyButtons(list);
    complete = true;
  }

  async function show() {
    if (!complete) {
      await bringAll();
    }
    const wanted = values();
    const cards = [...list.children];
    for (const card of cards) {
      card.hidden = !matches(card, wanted);
    }
    const shown = cards.filter((card) => !card.hidden).length;
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    document.getElementById("count").textContent = `${shown} of ${cards.length} models`;
    document.getElementById("none").hidden = shown > 0;
    document.getElementById("all").hidden = query.size === 0;
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  }

  // If the rest cannot be fetched, the server has the answer.
  const tryToShow = () => show().catch(() => form.submit());
  form.addEventListener("input", tryToShow);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tryToShow();
  });
  document.getElementById("all").addEventListener("click", (event) => {
    event.preventDefault();
    for (const name of FIELDS) {
      form.elements[name].value = "";
    }
    tryToShow();
  });

  // A page from a plain web host comes whole, whatever was asked for.
  const asked = new URLSearchParams(location.search);
  if (complete && FIELDS.some((name) => asked.get(name))) {
    for (const name of FIELDS) {
      form.elements[name].value = asked.get(name) ?? "";
    }
    tryToShow();
  }
}

addCopyButtons(document);
const form = document.querySelector("form[role=search]");
if (form) {
  filterAsOneTypes(form);
}
