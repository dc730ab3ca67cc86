// The page at / of the sandbox. Whatever came from a request is put in as text, never as HTML: `make` knows no other
// way, and the server's policy (trusted types) leaves none.
"use strict";

const API = "/_sandbox";
const SHOWN = matchMedia("(max-width: 640px)").matches ? 25 : 100;
const RESULTS = {
  applied: "Applied", answered: "Answered", replayed: "Replayed", refused: "Refused", throttled: "Throttled",
  failed: "Failed", cut: "Cut off",
};
const $ = (id) => document.getElementById(id);

// -- making elements --------------------------------------------------------------------------------

function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name === "class") element.className = value;
    else if (name === "click") element.addEventListener("click", value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

function cell(label, ...children) {
  return make("td", { role: "cell", "data-label": label, class: label === "Time" ? "number" : "" },
    make("div", {}, ...children));
}

function tag(result) {
  return make("span", { class: `tag ${result}` }, (RESULTS[result] || result).toLowerCase());
}

function plain(text, click, key, label) {
  return make("button", { type: "button", class: "plain id", click, "data-key": key, "aria-label": label }, text);
}

// Puts rows in place of those that are there, and leaves the focus on the row that had it.
function put(parent, rows) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...rows);
  if (focused) parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

const number = (value) => value.toLocaleString("en");
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
const took = (seconds) => seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(2)} s`;
const path = (text) => encodeURIComponent(text);

// -- asking -----------------------------------------------------------------------------------------

async function ask(method, where, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  const response = await fetch(API + where, options);
  const told = await response.json();
  if (!response.ok) throw new Error(told.error);
  return told;
}

// A picture that is asked for at most once in `pause` milliseconds, and once more where something came in between.
function gentle(pause, draw) {
  let busy = false, again = false;
  return async function run() {
    if (busy) { again = true; return; }
    busy = true;
    try { await draw(); } catch (error) { if (!(error instanceof TypeError)) console.warn(error.message); }
    setTimeout(() => { busy = false; if (again) { again = false; run(); } }, pause);
  };
}

// -- figures ----------------------------------------------------------------------------------------

function drawFigures(state) {
  const figures = [["Orders", state.orders, ""], ["Requests", state.requests, ""]];
  for (const [name, words] of Object.entries(RESULTS)) {
    if (name === "cut" && !state.results.cut) continue;
    figures.push([words, state.results[name], { refused: "bad", failed: "warn", throttled: "warn" }[name] || ""]);
  }
  figures.push(["In flight", state.in_flight, ""]);
  $("results").replaceChildren(...figures.map(([words, count, kind]) =>
    make("div", { class: `${kind} ${count ? "some" : ""}` }, make("dt", {}, words), make("dd", {}, number(count)))));
  $("nav-refused").textContent = number(state.refused);
  $("nav-refused").classList.toggle("some", state.refused > 0);
}

// -- refused ----------------------------------------------------------------------------------------

// The field that a reason begins with, apart from its words.
function why(reason) {
  const found = /^([\w.[\], ]+): (.*)$/s.exec(reason);
  return found ? [make("b", {}, found[1]), make("br"), found[2]] : [reason];
}

// Reasons with their ids taken out, so that a thousand lines with one cause are one row.
const cause = (one) => `${one.code} · ${one.reason.replace(/'[^']*'|"[^"]*"/g, "…").replace(/\b\d+\b/g, "n")}`;

const drawRefused = gentle(700, async () => {
  const { refusals, found } = await ask("GET", "/refusals");
  const open = refusals.filter((one) => !one.applied_later);
  $("refused-none").hidden = found > 0;
  $("refused-table").hidden = found === 0;
  const causes = new Map();
  for (const one of open) causes.set(cause(one), (causes.get(cause(one)) || 0) + 1);
  const groups = [...causes].sort((a, b) => b[1] - a[1]).slice(0, 5);
  $("reasons").hidden = open.length < 4;
  $("reasons").replaceChildren(...groups.map(([words, count]) =>
    make("li", {}, make("b", {}, `${number(count)} ×`), make("span", {}, words))));
  const settled = refusals.filter((one) => one.applied_later);
  put($("refused-rows"), [...open, ...settled].slice(0, SHOWN).map((one) => make("tr", { role: "row", class: one.applied_later ? "settled" : "" },
    cell("Line", one.order ? plain(`${one.order} / ${one.line}`, () => showLine(one.order, one.line), `${one.order}/${one.line}`) : make("span", { class: "id" }, one.method)),
    cell("Wanted", one.status ? make("span", { class: "id" }, one.status) : one.rows ? `${number(one.rows)} rows` : "—"),
    cell("Why", make("span", { class: "why" }, why(one.reason)), " ", make("span", { class: "quiet" }, `code ${one.code}`),
      one.applied_later ? [" ", make("span", { class: "tag good" }, "applied later")] : null),
    cell("Last", plain(clock(one.at), () => showRequest(one.number), `${one.number}`, `request ${one.number}, ${clock(one.at)}`),
      one.times > 1 ? make("span", { class: "quiet" }, ` ${number(one.times)} times`) : null))));
  $("refused-more").textContent = found > SHOWN ? `The last ${SHOWN} of ${number(found)}.` : "";
});

// -- requests ---------------------------------------------------------------------------------------

const filter = { result: "", search: "", paused: false };

function fits(one) {
  const texts = [one.order, one.line, one.status, one.method, one.request_id || "", one.reason, one.fault];
  return (!filter.result || one.result === filter.result)
    && (!filter.search || texts.some((text) => text.toLowerCase().includes(filter.search)));
}

function requestRow(one, fresh) {
  const about = one.order
    ? [make("span", { class: "id" }, `${one.order} / ${one.line}`), " → ", make("span", { class: "id" }, one.status)]
    : [make("span", { class: "id" }, one.method), one.rows ? ` ${number(one.rows)} rows` : ""];
  const answer = [one.reason || (one.http_status ? `HTTP ${one.http_status}` : "none"),
    one.fault ? [" ", make("span", { class: "quiet" }, one.fault.replaceAll("_", " "))] : ""];
  return make("tr", { role: "row", class: fresh ? "fresh" : "" },
    cell("No.", plain(number(one.number), () => showRequest(one.number), `${one.number}`, `request ${one.number}`)),
    cell("Result", tag(one.result)),
    cell("About", ...about),
    cell("Answer", ...answer),
    cell("Time", `${clock(one.at)} · ${took(one.seconds)}`));
}

const drawRequests = gentle(300, async () => {
  const query = new URLSearchParams({ limit: SHOWN, search: filter.search });
  if (filter.result) query.set("result", filter.result);
  const { requests } = await ask("GET", `/requests?${query}`);
  put($("requests-rows"), requests.map((one) => requestRow(one, false)));
  showIfAny();
});

function addRequests(rows) {
  const body = $("requests-rows");
  body.prepend(...rows.filter(fits).reverse().map((one) => requestRow(one, true)));
  while (body.children.length > SHOWN) body.lastChild.remove();
  showIfAny();
}

function showIfAny() {
  const some = $("requests-rows").children.length > 0;
  $("requests-table").hidden = !some;
  $("requests-none").hidden = some;
  $("requests-none").textContent = filter.result || filter.search ? "None fits." : "None yet.";
}

// -- orders -----------------------------------------------------------------------------------------

let ordersShown = 20;

const drawOrders = gentle(1500, async () => {
  const query = new URLSearchParams({ limit: ordersShown, search: $("orders-search").value });
  const { orders, found, next } = await ask("GET", `/orders?${query}`);
  $("orders-found").textContent = found ? `${number(found)} found` : "There is no such order.";
  $("orders-more").hidden = next === null || found <= ordersShown;
  put($("orders-rows"), orders.map(orderRow));
});

function orderRow(order) {
  const shown = order.lines.slice(0, 12);
  const chips = shown.map((line) => make("li", {},
    make("button", {
      type: "button", "data-key": `${order.external_id}/${line.external_id}`,
      click: () => showLine(order.external_id, line.external_id),
    }, make("span", { class: "id" }, line.external_id), " ", make("b", {}, line.status))));
  const more = order.lines.length - shown.length;
  return make("li", {},
    make("span", { class: "id" }, order.external_id), " ", make("span", { class: "quiet" }, order.status),
    make("ul", { class: "chips" }, ...chips, more > 0 ? make("li", { class: "quiet" }, `and ${number(more)} more`) : null));
}

// -- details ----------------------------------------------------------------------------------------

function show(title, ...content) {
  $("details-title").textContent = title;
  $("details-body").replaceChildren(...content.flat().filter(Boolean));
  if (!$("details").open) $("details").showModal();
}

function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return make("dl", { class: "facts" }, ...kept.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

async function showRequest(which) {
  try {
    const one = await ask("GET", `/requests/${which}`);
    show(`Request ${number(one.number)}`,
      facts([["Result", tag(one.result)], ["Reason", one.reason], ["Code", one.code || ""], ["Fault", one.fault],
        ["Method", make("code", {}, one.method)], ["Line", one.order ? `${one.order} / ${one.line}` : ""],
        ["Request-ID", one.request_id], ["Node", String(one.node + 1)], ["HTTP", one.http_status || ""],
        ["At", `${clock(one.at)}, took ${took(one.seconds)}`]]),
      make("h3", {}, "Headers"), make("pre", { tabindex: "0" }, Object.entries(one.headers).map(([name, value]) => `${name}: ${value}`).join("\n")),
      make("h3", {}, "Body"), make("pre", { tabindex: "0" }, pretty(one.body) || "(empty)"),
      make("h3", {}, "Answer"), make("pre", { tabindex: "0" }, pretty(one.answer) || "(none)"));
  } catch (error) { show(`Request ${number(which)}`, make("p", {}, error.message)); }
}

async function showLine(order, line) {
  try {
    const told = await ask("GET", `/orders/${path(order)}/lines/${path(line)}`);
    const refused = told.requests.find((one) => one.code && one.result !== "throttled");
    show(`${order} / ${line}`,
      facts([["Status now", told.status || "there is no such line"], ["Last refusal", refused ? refused.reason : ""]]),
      make("h3", {}, "Changes made"),
      told.changes.length
        ? make("ol", { class: "steps" }, ...told.changes.map((one) => make("li", {}, make("b", {}, one.status), " ", make("span", { class: "quiet id" }, one.request_id || "no Request-ID"))))
        : make("p", { class: "quiet" }, "None."),
      make("h3", {}, "Requests, in order of arrival"),
      told.arrivals.length
        ? make("ol", { class: "steps" }, ...told.arrivals.map((one) => make("li", {}, make("b", {}, one.status), " ", tag(one.fate), " ", make("span", { class: "quiet id" }, one.request_id || "no Request-ID"))))
        : make("p", { class: "quiet" }, "None."));
  } catch (error) { show(`${order} / ${line}`, make("p", {}, error.message)); }
}

// -- faults -----------------------------------------------------------------------------------------

let faultsShown = "";

const drawFaults = gentle(300, async () => drawTheseFaults(await ask("GET", "/faults")));

function drawTheseFaults({ faults, preset, presets, fields }) {
  const known = presets.find((one) => one.name === preset);
  $("faults-now").textContent = known ? `Now: ${known.name}.` : "Now: chosen one by one.";
  if (!$("presets").children.length) {
    $("presets").append(...presets.map((one) => make("button",
      { type: "button", "data-preset": one.name, click: () => choose(one.name) }, one.name, make("span", {}, one.text))));
  }
  for (const one of $("presets").children) one.setAttribute("aria-pressed", String(one.dataset.preset === preset));
  const text = JSON.stringify(faults);
  if (text === faultsShown) return;
  faultsShown = text;
  $("fault-fields").replaceChildren(...fields.filter((one) => one.kind in INPUTS).map((one) =>
    make("label", {}, make("span", {}, one.name.replaceAll("_", " "), make("small", {}, one.help)), INPUTS[one.kind](one, faults[one.name]))));
}

const INPUTS = {
  share: (one, value) => make("input", { type: "number", name: one.name, "data-kind": "share", min: 0, max: 100, step: "any", value: +(value * 100).toFixed(4), "aria-label": `${one.name}, percent` }),
  number: (one, value) => make("input", { type: "number", name: one.name, "data-kind": "number", min: 0, step: "any", value: value ?? "" }),
  whole: (one, value) => make("input", { type: "number", name: one.name, "data-kind": "number", min: 1, step: 1, value: value ?? "" }),
  choice: (one, value) => make("select", { name: one.name, "data-kind": "choice" }, ...one.choices.map((choice) => make("option", { selected: choice === value }, choice))),
};

async function choose(preset) {
  drawTheseFaults(await ask("PUT", "/faults", { preset }));
}

async function switchOwn() {
  const wanted = {};
  for (const input of $("fault-fields").querySelectorAll("input, select")) {
    const text = input.value;
    if (input.dataset.kind === "choice") wanted[input.name] = text;
    else if (input.dataset.kind === "share") wanted[input.name] = Number(text || 0) / 100;
    else wanted[input.name] = text === "" ? null : Number(text);
  }
  $("fault-error").textContent = "";
  try { drawTheseFaults(await ask("PATCH", "/faults", wanted)); } catch (error) { $("fault-error").textContent = error.message; }
}

// -- the ledger -------------------------------------------------------------------------------------

const drawLedger = gentle(1000, async () => {
  const { ok, findings, statistics } = await ask("GET", "/ledger");
  $("verdict").className = `verdict ${statistics.requests === 0 ? "" : ok ? "good" : "bad"}`;
  const words = statistics.requests === 0 ? "Nothing came yet." : ok ? "All is well." : "Something is wrong.";
  if ($("verdict").textContent !== words) $("verdict").textContent = words;
  $("findings").replaceChildren(...findings.map((one) => make("li", { class: one.ok ? "" : "bad" }, one.text)));
});

function readRows(text) {
  const rows = text.split(/\r?\n/).filter((row) => row.trim()).map((row) => row.split(/[,;\t]/).map((one) => one.trim().replace(/^"(.*)"$/, "$1")));
  return rows.length && rows[0][0] === "order_external_id" ? rows.slice(1) : rows;
}

async function compare() {
  try {
    const found = await ask("POST", "/ledger/check", { expected: readRows($("expected").value) });
    const lists = ["lost", "duplicated", "reordered", "unexpected"].filter((kind) => found.counts[kind]).map((kind) =>
      make("div", {}, make("h3", {}, `${number(found.counts[kind])} ${kind}`),
        make("ul", { class: "steps" }, ...found[kind].slice(0, 20).map((one) => make("li", { class: "id" }, `${one.order_external_id} / ${one.order_line_external_id} → ${one.status}`)))));
    $("check-result").replaceChildren(make("p", { class: `verdict ${found.ok ? "good" : "bad"}` }, `${found.ok ? "As it should be" : "Not as it should be"}: ${found.text}.`), ...lists);
  } catch (error) { $("check-result").replaceChildren(make("p", { class: "error" }, error.message)); }
}

// -- all of it --------------------------------------------------------------------------------------

async function saying(words, act) {
  try { await act(); $("all-said").className = "said"; $("all-said").textContent = words; } catch (error) {
    $("all-said").className = "said bad"; $("all-said").textContent = error.message;
  }
  drawAll();
}

async function save() {
  const text = await (await fetch(`${API}/snapshot`)).text();
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "sandbox.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// -- what happens -----------------------------------------------------------------------------------

let preset = null, start = null;

function drawAll() {
  for (const draw of [drawRefused, drawRequests, drawOrders, drawFaults, drawLedger]) draw();
}

function onNews(event) {
  const { requests, missed, state } = JSON.parse(event.data);
  drawFigures(state);
  if (start !== null && start !== state.start) { start = state.start; drawAll(); return; }
  start = state.start;
  if (preset !== state.faults || !requests.length) drawFaults();
  preset = state.faults;
  if (requests.some((one) => one.code || one.result === "applied")) drawRefused();
  drawOrders();
  drawLedger();
  if (filter.paused) return;
  if (missed) drawRequests(); else addRequests(requests);
}

function follow() {
  const source = new EventSource(`${API}/events`);
  const link = $("link");
  source.onopen = () => { link.className = "link on"; link.textContent = "live"; drawAll(); };
  source.onerror = () => { link.className = "link off"; link.textContent = "not reached; trying again"; };
  source.addEventListener("news", onNews);
}

function begin() {
  $("address").textContent = location.origin;
  for (const [name, words] of Object.entries(RESULTS)) $("filter-result").append(make("option", { value: name }, words.toLowerCase()));
  $("filter-result").addEventListener("change", () => { filter.result = $("filter-result").value; drawRequests(); });
  $("filter-search").addEventListener("input", () => { filter.search = $("filter-search").value.trim().toLowerCase(); drawRequests(); });
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("pause").addEventListener("click", () => {
    filter.paused = !filter.paused;
    $("pause").setAttribute("aria-pressed", String(filter.paused));
    if (!filter.paused) drawRequests();
  });
  $("orders-search").addEventListener("input", () => { ordersShown = 20; drawOrders(); });
  $("orders-more").addEventListener("click", () => { ordersShown += 50; drawOrders(); });
  $("seed").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { orders: Number($("seed-orders").value), lines_per_order: Number($("seed-lines").value) };
    try { await ask("POST", "/seed", body); drawOrders(); } catch (error) { $("orders-found").textContent = error.message; }
  });
  $("fault-form").addEventListener("submit", (event) => { event.preventDefault(); switchOwn(); });
  $("check-form").addEventListener("submit", (event) => { event.preventDefault(); compare(); });
  $("expected-file").addEventListener("change", async () => {
    const [file] = $("expected-file").files;
    if (file) $("expected").value = await file.text();
  });
  $("save").addEventListener("click", () => saying("Saved as sandbox.json.", save));
  $("restore").addEventListener("change", () => saying("Restored.", async () => {
    const [file] = $("restore").files;
    if (file) await ask("POST", "/restore", await file.text());
    $("restore").value = "";
  }));
  $("reset").addEventListener("click", () => {
    if (confirm("Forget all orders, requests and the ledger?")) saying("Everything is forgotten.", () => ask("POST", "/reset"));
  });
  $("details-close").addEventListener("click", () => $("details").close());
  $("details").addEventListener("click", (event) => { if (event.target === $("details")) $("details").close(); });
  follow();
}

begin();
