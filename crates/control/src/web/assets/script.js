// What a page does while it is open: ages go on, the page is read again when something happened, and a
// server that does not answer is said. Only reads are repeated; a form is sent by whoever presses it.
(() => {
  "use strict";
  const { body } = document;
  const lost = document.getElementById("lost");
  const said = document.getElementById("said");
  const SILENCE = 25000; // The server sends a pulse every ten seconds.
  const AGAIN = 2000;
  const APART = 1000; // Between two readings of the same page.
  const LINES = 5000;

  // The server's clock, as far as this page knows it.
  let ahead = Number(body.dataset.now || Date.now()) - Date.now();
  const now = () => Date.now() + ahead;

  const span = (ms) => {
    if (ms < 1000) return "less than 1 s";
    if (ms < 120000) return `${Math.floor(ms / 1000)} s`;
    if (ms < 7200000) return `${Math.floor(ms / 60000)} min`;
    if (ms < 172800000) return `${Math.floor(ms / 3600000)} h`;
    return `${Math.floor(ms / 86400000)} d`;
  };

  const ages = () => {
    for (const at of document.querySelectorAll("[data-since]")) {
      const ms = now() - Number(at.dataset.since);
      at.textContent = ms < 0 ? `in ${span(-ms)}` : `${span(ms)} ago`;
    }
    for (const at of document.querySelectorAll("[data-until]")) {
      const ms = Number(at.dataset.until) - now();
      at.textContent = ms > 0 ? `another ${span(ms)}` : "no time any more: have it explained anew";
    }
  };
  setInterval(ages, 1000);

  const follow = () => {
    const log = document.getElementById("log");
    const place = document.getElementById("follow");
    if (!log || !place) return;
    const button = document.createElement("button");
    const state = document.createElement("span");
    state.setAttribute("role", "status");
    let stop = null;
    const idle = (why) => {
      stop = null;
      button.textContent = "Follow";
      state.textContent = why;
    };
    const run = async () => {
      stop = new AbortController();
      button.textContent = "Stop following";
      state.textContent = " What comes is added below.";
      try {
        const answer = await fetch(log.dataset.follow, { signal: stop.signal, redirect: "manual" });
        if (!answer.ok) return idle(` It cannot be followed (${answer.status || "not logged in"}).`);
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          const stays = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
          const lines = (log.textContent + value).split("\n");
          log.textContent = lines.slice(-LINES).join("\n");
          if (stays) log.scrollTop = log.scrollHeight;
        }
        idle(` It ended at ${new Date(now()).toISOString().slice(11, 19)} UTC.`);
      } catch (error) {
        const at = new Date(now()).toISOString().slice(11, 19);
        idle(error.name === "AbortError" ? " Not followed any more." : ` The stream was lost at ${at} UTC.`);
      }
    };
    button.addEventListener("click", () => (stop ? stop.abort() : run()));
    idle("");
    place.append(button, state);
    log.scrollTop = log.scrollHeight;
  };
  follow();

  if (!body.dataset.live || !window.EventSource) return;

  let since = null; // Since when nothing was heard.
  let heard = Date.now();
  let stream = null;
  let ended = false;

  const say = (why, link) => {
    if (lost.dataset.why === why) return;
    lost.dataset.why = why;
    lost.textContent = why;
    if (link) {
      const a = document.createElement("a");
      a.href = `/login?to=${encodeURIComponent(location.pathname + location.search)}`;
      a.textContent = "Log in again";
      lost.append(" ", a);
    }
  };

  const silent = (why) => {
    since = since || new Date(heard + ahead);
    const at = since.toISOString().slice(11, 19);
    say(`${why} since ${at} UTC. What stands here is from before and may not be so any more.`);
  };

  const found = () => {
    heard = Date.now();
    if (since) said.textContent = "The server answers again.";
    since = null;
    delete lost.dataset.why;
    lost.textContent = "";
  };

  const over = () => {
    ended = true;
    drop();
    say("Your session has ended. What stands here is from before and may not be so any more.", true);
  };

  // Takes over what has changed, and leaves forms and whatever is open or focused as it is.
  const renew = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const kept = document.activeElement;
    const sign = kept && (kept.getAttribute("href") || kept.id);
    for (const old of document.querySelectorAll("[data-renewed][id]")) {
      const fresh = next.getElementById(old.id);
      if (!fresh || old.querySelector("details[open]")) continue;
      if (old.innerHTML === fresh.innerHTML) continue;
      const had = old.contains(kept);
      old.replaceChildren(...document.importNode(fresh, true).childNodes);
      for (const name of Object.keys(fresh.dataset)) old.dataset[name] = fresh.dataset[name];
      if (had && sign) {
        const again = [...old.querySelectorAll("a, [id], [tabindex]")];
        (again.find((one) => (one.getAttribute("href") || one.id) === sign) || old.querySelector("[tabindex]") || document.getElementById("main")).focus({ preventScroll: true });
      }
    }
    body.dataset.live = next.body.dataset.live || body.dataset.live;
    body.dataset.now = next.body.dataset.now;
    ahead = Number(next.body.dataset.now) - Date.now();
    ages();
  };

  const read = async () => {
    const answer = await fetch(location.href, {
      // What the page reads by itself keeps no session from falling idle.
      headers: { accept: "text/html", "holdfast-unattended": "true" },
      cache: "no-store",
      redirect: "manual",
      signal: AbortSignal.timeout(10000),
    });
    if (answer.type === "opaqueredirect" || answer.status === 401) return over();
    const text = await answer.text();
    if (!answer.ok) throw new Error(`answers ${answer.status}`);
    renew(text);
    found();
  };

  const failed = (error) => {
    const why = error.message.startsWith("answers") ? `The server ${error.message} instead of this page` : "No answer from the server";
    // From here on the page itself is asked, until it answers.
    drop();
    silent(why);
  };

  let waits = false;
  let wanted = false;
  const soon = () => {
    if (ended) return;
    if (waits) {
      wanted = true;
      return;
    }
    waits = true;
    setTimeout(async () => {
      await read().catch(failed);
      waits = false;
      if (wanted && !since) {
        wanted = false;
        soon();
      }
    }, APART);
  };

  const open = () => {
    stream = new EventSource(body.dataset.live);
    stream.onopen = () => (heard = Date.now());
    stream.onmessage = () => {
      heard = Date.now();
      soon();
    };
    stream.addEventListener("pulse", () => (heard = Date.now()));
    // Whether the server is gone or only the stream: the next look at the page tells.
    stream.onerror = drop;
  };

  const drop = () => {
    if (stream) stream.close();
    stream = null;
  };

  // Without a stream the page is read until there is an answer, and a stream is tried again.
  let looks = false;
  const look = async () => {
    if (ended || looks) return;
    if (stream && Date.now() - heard > SILENCE) drop();
    if (stream) return;
    looks = true;
    try {
      await read();
      if (!ended && !stream) open();
    } catch (error) {
      failed(error);
    }
    looks = false;
  };
  setInterval(look, AGAIN);
  if (body.dataset.every) setInterval(() => stream && soon(), Number(body.dataset.every) * 1000);
  addEventListener("pagehide", drop);
  open();
})();
