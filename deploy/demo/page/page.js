"use strict";

const $ = (id) => document.getElementById(id);

// el makes an element; text never becomes markup.
function el(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  for (const c of children) if (c !== null && c !== undefined && c !== "") e.append(c);
  return e;
}

let current = "alice";
let stage = { visitors: [] };
let turn = 0; // of calls: a late answer of an earlier choice is not shown

const pills = { arrived: "arrived", denied: "denied by the app", lost: "person lost", refused: "refused, with the reason" };

// Headers that tell who the person is stand first; what a plain HTTP client always sends is left out.
const person = ["X-Forwarded-Access-Token", "X-Forwarded-Email", "X-Forwarded-User", "X-Forwarded-Preferred-Username"];
const dull = ["Accept-Encoding", "User-Agent"];

function headers(call) {
  const list = el("dl", "headers mono");
  const row = (name, value, className) => list.append(el("dt", className, name), el("dd", className, value));
  if (call.missing) row(call.missing, "did not arrive", "missing");
  for (const name of person) {
    const value = call.header[name];
    if (value) row(name, value, name === person[0] ? "person" : "");
    else if (name === person[0]) row(name, "not set", "missing");
  }
  const others = Object.keys(call.header).filter((n) => !person.includes(n) && !dull.includes(n) && n !== call.missing).sort();
  for (const name of others) row(name, call.header[name]);
  return list;
}

function card(call) {
  const head = el("div", "row", el("h3", "", call.title), el("span", "pill", (call.status ? call.status + " " : "") + pills[call.state]));
  if (call.ms) head.append(el("span", "end", call.ms.toFixed(call.ms < 10 ? 1 : 0) + " ms"));
  const c = el("article", "card " + call.state, head, el("p", "verdict", call.verdict));
  if (call.body) c.append(el("code", "body", call.body));
  if (call.header) c.append(el("p", "label", "What the middleware app received"), headers(call));
  if (call.sent) c.append(el("details", "", el("summary", "", "What the UI app sent"), el("code", "body", call.sent.join("\n"))));
  return c;
}

async function choose(id) {
  current = id;
  const mine = ++turn;
  for (const b of $("visitors").children) b.setAttribute("aria-pressed", String(b.dataset.id === id));
  commands();
  for (const side of ["attempts", "relay"]) $(side).classList.add("busy");
  try {
    const r = await fetch("api/calls?visitor=" + encodeURIComponent(id), { method: "POST" });
    if (!r.ok) throw new Error((await r.text()).trim());
    const result = await r.json();
    if (mine !== turn) return;
    for (const side of ["attempts", "relay"]) $(side).replaceChildren(...result[side].map(card));
  } catch (e) {
    if (mine === turn) $("relay").replaceChildren(el("p", "empty", "No answer: " + e.message + ". Is “obo up” still running?"));
  } finally {
    if (mine === turn) for (const side of ["attempts", "relay"]) $(side).classList.remove("busy");
  }
}

function commands() {
  const visitor = stage.visitors.find((v) => v.id === current);
  if (!visitor) return;
  $("as").textContent = visitor.as;
  $("commands").replaceChildren(...visitor.commands.map((c) => {
    const copy = el("button", "copy", "copy");
    copy.type = "button";
    copy.setAttribute("aria-label", "copy " + c.title);
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(c.text);
      copy.textContent = "copied";
      setTimeout(() => { copy.textContent = "copy"; }, 1500);
    });
    return el("article", "command", el("div", "about", el("div", "row", el("h3", "", c.title), copy), el("p", "", c.note)), el("pre", "", c.text));
  }));
}

// A message as the nats CLI prints it, with its first bytes.
function opened(m) {
  let text = "[#" + m.number + "] Received on \"" + m.subject + "\"" + (m.reply ? "\n     with reply \"" + m.reply + "\"" : "") + "\n";
  for (const [name, value] of Object.entries(m.header || {})) text += name + ": " + value + "\n";
  return text + "\n" + m.dump + (m.size > 256 ? "… " + m.size.toLocaleString("en") + " bytes in all" : "");
}

function listen() {
  const box = $("messages");
  box.append(el("p", "empty", "No message yet."));
  const last = { number: 0 };
  const events = new EventSource("api/messages");
  events.onmessage = (event) => {
    const m = JSON.parse(event.data);
    if (m.number <= last.number) return; // sent again after a reconnect
    last.number = m.number;
    box.querySelector(".empty")?.remove();
    const h = m.header || {};
    const hints = [h["Obo-Method"], h["Obo-Path"], h["Obo-Status"]].filter(Boolean).join(" ");
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const row = el("details", "message " + m.kind,
      el("summary", "mono", el("span", "time", m.time), el("span", "kind", m.kind), el("span", "subject", m.subject),
        el("span", "hints", hints), el("span", "size", m.size.toLocaleString("en") + " B")));
    row.addEventListener("toggle", () => {
      if (row.open && !row.querySelector("pre")) row.append(el("pre", "", opened(m)));
      if (row.open) box.scrollTop = Math.max(0, row.offsetTop - 60);
    });
    box.append(row);
    while (box.children.length > 500) box.firstChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  };
}

async function start() {
  stage = await (await fetch("api/stage")).json();
  $("visitors").replaceChildren(...stage.visitors.map((v) => {
    const b = el("button", "", el("b", "", v.name), el("span", "", v.note));
    b.type = "button";
    b.dataset.id = v.id;
    b.addEventListener("click", () => choose(v.id));
    return b;
  }));
  $("addresses").replaceChildren(...[["UI app", stage.ui], ["middleware app", stage.front], ["sidecar", stage.sidecar], ["workspace", stage.workspace], ["NATS", stage.nats]]
    .map(([name, url]) => {
      const address = el(url.startsWith("http") && name !== "sidecar" ? "a" : "span", "", el("code", "", url));
      if (address.href !== undefined) [address.href, address.target] = [url, "_blank"];
      return el("span", "", name + " ", address);
    }));
  const quiet = () => $("messages").classList.toggle("quiet", $("quiet").checked);
  $("quiet").addEventListener("change", quiet);
  quiet();
  listen();
  const wanted = location.hash.slice(1);
  choose(stage.visitors.some((v) => v.id === wanted) ? wanted : "alice");
}

start();
