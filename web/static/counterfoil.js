// Progressive enhancement only: every page works without this file.
"use strict";

const STALE_AFTER = 15000; // ms without an answer until the live mark says so
const TOAST_FOR = 6000;
const USER_EVENTS = ["click", "submit", "change", "input", "search", "keyup", "keydown"];

const said = (text) => { const box = document.getElementById("said"); if (box) box.textContent = text; };
const clock = (date) => date.toISOString().slice(11, 19);

// ---- Dialogs, copying, the search key ----
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
    const dialog = document.getElementById(opener.dataset.dialog);
    if (dialog) { event.preventDefault(); dialog.showModal(); } // without script the link leads to a page of its own
  }
  const closer = event.target.closest("[data-close]");
  const open = closer && closer.closest("dialog:modal");
  if (open) {
    event.preventDefault();
    open.close();
  }
  const copier = event.target.closest("[data-copy]");
  if (copier) navigator.clipboard?.writeText(copier.dataset.copy).then(() => said("Copied"), () => said("Could not copy"));
  if (event.target.closest("[data-print]")) window.print();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog, [contenteditable]")) return;
  const search = document.querySelector("[type=search]");
  if (search) { event.preventDefault(); search.focus(); }
});
const makeModal = (root) => root.querySelectorAll("dialog[open][data-modal]").forEach((dialog) => { dialog.close(); dialog.showModal(); });
makeModal(document); // a dialog that the server rendered open becomes modal, so that focus stays inside it

// ---- Buttons: nothing for 300 ms, then a spinner; a second press does nothing ----
document.addEventListener("submit", (event) => {
  const form = event.target, button = event.submitter;
  if (event.defaultPrevented || !button || form.method === "get" || form.matches("[hx-post]")) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  button.setAttribute("aria-busy", "true"); // the style sheet waits 300 ms
});
window.addEventListener("pageshow", () => { // also when the page comes back from the browser's memory
  document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
  document.querySelectorAll("button[aria-busy]").forEach((button) => button.removeAttribute("aria-busy"));
});

// ---- Toasts: 6 s, kept while hovered or focused ----
const keepToast = (toast) => {
  const leave = () => (toast.matches(":hover, :focus-within") ? setTimeout(leave, 1000) : toast.remove());
  setTimeout(leave, TOAST_FOR);
};
document.querySelectorAll(".toast-box").forEach(keepToast);
document.addEventListener("toast", (event) => { // HX-Trigger: {"toast": "text"}
  const toast = document.createElement("div");
  toast.className = "toast-box";
  toast.textContent = event.detail.value;
  document.getElementById("toasts")?.append(toast);
  keepToast(toast);
});
document.addEventListener("said", (event) => said(event.detail.value)); // HX-Trigger: {"said": "text"}

// ---- Live: what nobody pressed is marked, and never disturbs what somebody is doing ----
const missed = new Set();
const byPerson = (detail) => USER_EVENTS.includes(detail?.triggeringEvent?.type ?? detail?.requestConfig?.triggeringEvent?.type);
const inUse = (element) => {
  const focus = document.activeElement;
  if (focus && focus !== document.body && focus !== element && element.contains(focus)) return true;
  return Boolean(element.querySelector(":popover-open, dialog[open]"));
};
const refresh = (element, event) => {
  if (element.isConnected && window.htmx) window.htmx.ajax("GET", element.getAttribute("hx-get"), { source: element, target: element, swap: "outerHTML", event });
};
const catchUp = () => setTimeout(() => missed.forEach((element) => {
  if (inUse(element)) return;
  missed.delete(element);
  refresh(element);
}), 50);
["focusout", "close", "toggle"].forEach((name) => document.addEventListener(name, catchUp, true));

document.addEventListener("htmx:configRequest", (event) => {
  if (!byPerson(event.detail)) event.detail.headers["Counterfoil-Background"] = "true"; // does not keep a session alive
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!byPerson(event.detail) && document.hidden) event.preventDefault(); // nobody is looking
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const target = event.detail.target;
  if (byPerson(event.detail) || !event.detail.shouldSwap || !target.id || !inUse(target)) return;
  event.detail.shouldSwap = false;
  if (target.hasAttribute("hx-get")) missed.add(target);
});
document.addEventListener("htmx:load", (event) => makeModal(event.detail.elt));

let answered = Date.now();
document.addEventListener("htmx:afterRequest", (event) => {
  const element = event.detail.elt;
  if (element.id === "live" && event.detail.successful) {
    answered = Date.now();
    const mark = document.getElementById("live"), time = mark?.querySelector("time"), now = new Date();
    mark?.querySelector(".dot")?.classList.replace("tone-wait", "tone-ok");
    if (time) { time.textContent = clock(now); time.dateTime = now.toISOString(); }
    return;
  }
  if (element.id !== "live" && !event.detail.successful && !byPerson(event.detail)) couldNotRefresh(element);
});
setInterval(() => {
  const dot = document.querySelector("#live .dot");
  if (dot && !document.hidden && Date.now() - answered > STALE_AFTER) dot.classList.replace("tone-ok", "tone-wait");
}, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) answered = Math.max(answered, Date.now() - STALE_AFTER + 6000); });

// A fragment that could not be fetched keeps its old content and says so in one line.
function couldNotRefresh(element) {
  if (!element.id || element.querySelector(".stale")) return;
  const line = document.createElement("p"), again = document.createElement("button");
  line.className = "stale small text-secondary";
  line.setAttribute("role", "status");
  line.textContent = `Could not refresh, shown as of ${clock(new Date(answered)).slice(0, 5)}. `;
  again.type = "button";
  again.className = "btn btn-sm";
  again.textContent = "Try again";
  again.addEventListener("click", (event) => { line.remove(); refresh(element, event); });
  line.append(again);
  element.prepend(line);
}
