/* The live parts of the page. Everything on it works without this: what is live is the same HTML, fetched again. */
"use strict";
(() => {
  const MOST_LINES = 4000;
  const live = document.getElementById("live");
  const log = document.getElementById("log");
  let source = null;
  let retry = 1;
  let timer = 0;
  let swapping = false;
  let due = false;

  for (const one of document.querySelectorAll("[data-js]")) one.hidden = false;

  /* ---- the header's word ---- */
  function say(state, text) {
    if (!live) return;
    live.className = state ? "live " + state : "live";
    if (live.textContent !== text) live.textContent = text;
  }

  /* ---- times, in the reader's zone ---- */
  function span(s) {
    s = Math.max(0, s);
    if (s < 60) return Math.floor(s) + " s";
    if (s < 600) return Math.floor(s / 60) + " m " + String(Math.floor(s % 60)).padStart(2, "0") + " s";
    if (s < 3600) return Math.floor(s / 60) + " m";
    if (s < 86400) return Math.floor(s / 3600) + " h " + String(Math.floor(s % 3600 / 60)).padStart(2, "0") + " m";
    return Math.floor(s / 86400) + " d";
  }
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  function retell(only) {
    const now = Date.now() / 1000;
    for (const one of document.querySelectorAll("main time[datetime]")) {
      const at = Date.parse(one.getAttribute("datetime")) / 1000;
      if (Number.isNaN(at)) continue;
      if (!one.dataset.told) {
        one.dataset.told = "1";
        one.title = (one.title.startsWith("since ") ? "since " : "") + exact.format(at * 1000);
      }
      if ("clock" in one.dataset || (only && Math.abs(now - at) > 90)) continue;
      const said = "since" in one.dataset ? span(now - at) : at <= now ? span(now - at) + " ago" : "in " + span(at - now);
      if (one.textContent !== said) one.textContent = said;
    }
  }
  retell(false);
  setInterval(() => retell(true), 1000);
  setInterval(() => retell(false), 60000);

  /* ---- sections that are swapped whole ---- */
  function busy(section) {
    return section.contains(document.activeElement) || section.querySelector("details.act[open]") !== null
      || section.matches(":hover");
  }
  async function swap() {
    if (swapping) { due = true; return; }
    swapping = true;
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { "X-Live": "1" } });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      for (const now of fresh.querySelectorAll("[data-live]")) {
        const before = now.id && document.getElementById(now.id);
        if (!before || before.isEqualNode(now)) continue;
        if (busy(before)) { due = true; continue; }
        before.replaceWith(document.adoptNode(now));
      }
      retell(false);
    } catch (error) {
      due = true; /* the connection is told of by its own event */
    } finally {
      swapping = false;
      if (due) { due = false; setTimeout(swap, 2000); }
    }
  }

  /* ---- the log ---- */
  const lines = log ? log.querySelector(".lines") : null;
  const follow = log ? log.querySelector(".with-follow") : null;
  function grow(html) {
    const box = log.querySelector(".lines-box");
    const top = box.scrollTop;
    const parts = new DOMParser().parseFromString("<ol>" + html + "</ol>", "text/html");
    const fresh = document.createDocumentFragment();
    for (const item of [...parts.querySelectorAll("li")]) {
      const there = document.getElementById(item.id);
      /* A line that was not whole is sent again when it has grown. */
      if (there && there.parentNode === lines) { number(item, there); there.replaceWith(document.adoptNode(item)); }
      else { fresh.append(document.adoptNode(item)); }
    }
    for (const item of fresh.children) number(item, null);
    lines.append(fresh);
    while (lines.children.length > MOST_LINES) lines.firstElementChild.remove();
    const none = document.getElementById("no-output");
    if (none) none.hidden = true;
    if (follow && !follow.checked) box.scrollTop = top;
    else box.scrollTop = 0; /* the box is turned round: 0 is its end */
  }
  function number(item, there) {
    const link = item.firstElementChild;
    if (there) { link.textContent = there.firstElementChild.textContent; return; }
    const before = item.previousElementSibling || lines.lastElementChild;
    const last = before ? parseInt(before.firstElementChild.textContent, 10) : (item.id === "b0" ? 0 : NaN);
    if (!Number.isNaN(last)) link.textContent = String(last + 1);
  }

  /* ---- one stream a page ---- */
  let place = log ? log.dataset.from : "";
  function open() {
    clearTimeout(timer);
    if (document.hidden) { say("", "paused"); return; }
    const following = log && log.dataset.open === "yes";
    const href = following ? "/runs/" + encodeURIComponent(log.dataset.run) + "/follow?from=" + place : "/live";
    source = new EventSource(href);
    source.onopen = () => { retry = 1; say("on", "live"); swap(); };
    source.addEventListener("changed", () => swap());
    source.addEventListener("lines", (event) => { place = event.lastEventId || place; grow(event.data); });
    source.addEventListener("end", () => {
      log.dataset.open = "no";
      source.close();
      swap();
      setTimeout(swap, 1500);
      open();
    });
    source.onerror = () => {
      source.close();
      let left = retry;
      retry = Math.min(retry * 2, 30);
      const wait = () => {
        if (left <= 0) { open(); return; }
        say("off", "connection lost, tries again in " + left + " s");
        left -= 1;
        timer = setTimeout(wait, 1000);
      };
      wait();
    };
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(timer); if (source) source.close(); say("", "paused"); }
    else open();
  });
  addEventListener("pagehide", () => { if (source) source.close(); });
  if (live) open();

  /* ---- a form is left with Escape; only one is open at a time ---- */
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const one of document.querySelectorAll("details.act[open]")) {
      one.open = false;
      one.querySelector("summary").focus();
    }
  });
})();
