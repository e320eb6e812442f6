/* Keeps one event stream open for the page and hands on what it says; docs/ui.md lists the events.
   The browser's own reconnection forgets the cursor after an error of the server, so this file reconnects itself. */
(() => {
  const { body } = document;
  const word = document.getElementById("live");
  const FIRST = 500, LONGEST = 10_000, SETTLED = 2_000, GIVE_UP = 5, POLL = 5_000;
  let stream = body.dataset.stream, cursor = body.dataset.cursor || "", source = null, ended = false, missed = false;
  let failures = 0, retry = 0, settled = 0, polling = 0;

  const trigger = (name) => window.htmx?.trigger(body, name);

  function say(tone, text) {
    if (word) word.innerHTML = `<span class="state ${tone}">${text}</span>`;
  }

  function open() {
    clearTimeout(retry);
    const url = new URL(stream, location.href);
    if (cursor) url.searchParams.set("after", cursor);
    url.searchParams.set("heard", missed ? "" : body.dataset.heard);
    source = new EventSource(url);
    source.onopen = () => {
      stopPolling();
      say("ok", "live");
      missed = false;
      settled = setTimeout(() => { failures = 0; }, SETTLED);
    };
    source.onerror = () => {
      close();
      missed = true;
      failures += 1;
      if (failures >= GIVE_UP) startPolling();
      else say("wait", "reconnecting");
      const wait = Math.min(LONGEST, FIRST * 2 ** (failures - 1));
      retry = setTimeout(open, wait * (0.5 + Math.random() / 2));
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) cursor = event.lastEventId;
        handle(event.data);
      });
    }
  }

  function close() {
    clearTimeout(settled);
    source?.close();
    source = null;
  }

  /* Without a stream: the page is asked for again, and its live parts are taken from the answer. */
  async function poll() {
    tellAll();
    document.getElementById("log")?.dispatchEvent(new Event("poll"));
    if (!document.querySelector("[data-live][id]")) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected) return leave(answer.url);
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      window.morphById(page.querySelectorAll("[data-live][id]"));
    } catch { /* Offline: the next poll tries again, and the word in the header says so. */ }
  }

  function startPolling() {
    say("wait", "polling");
    if (!polling) polling = setInterval(poll, POLL);
  }

  function stopPolling() {
    clearInterval(polling);
    polling = 0;
  }

  /* Signed out elsewhere: an answer that is the sign-in page must not land inside this one. */
  function leave(url) {
    if (new URL(url, location.href).pathname === body.dataset.login) location.reload();
  }

  const topics = new Set();
  let telling = 0;
  function tell() {
    telling = 0;
    trigger("news");
    for (const topic of topics) trigger(`news-${topic}`);
    topics.clear();
  }

  /* News has no cursor: after a gap anything may have changed, so every part that listens asks again. */
  function tellAll() {
    for (const element of document.querySelectorAll("[hx-trigger*='news-']")) {
      for (const [, topic] of element.getAttribute("hx-trigger").matchAll(/news-(\w+)/g)) topics.add(topic);
    }
    tell();
  }

  let lines = [];
  function flush() {
    const html = lines.join("");
    lines = [];
    document.getElementById("log")?.dispatchEvent(new CustomEvent("lines", { detail: html }));
  }

  const handlers = {
    line(html) {
      if (lines.push(html) === 1) requestAnimationFrame(flush);
    },
    status(html) {
      const template = document.createElement("template");
      template.innerHTML = html;
      window.morphById([...template.content.children]);
      trigger("status");
    },
    news(words) {
      for (const topic of words.split(/\s+/).filter(Boolean)) topics.add(topic);
      telling ||= setTimeout(tell, 300);
    },
    end() {
      close();
      ended = stream === body.dataset.news;
      if (ended) return say("idle", "ended");
      stream = body.dataset.news;
      cursor = "";
      open();
    },
  };

  body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { responseURL } = detail.xhr;
    if (!responseURL || new URL(responseURL).pathname !== body.dataset.login) return;
    detail.shouldSwap = false;
    leave(responseURL);
  });

  if (!stream) return;
  document.addEventListener("visibilitychange", () => {
    if (ended) return;
    close();
    missed = true;
    clearTimeout(retry);
    stopPolling();
    if (!document.hidden) open();
  });
  addEventListener("pagehide", () => {
    missed = true;
    close();
  });
  addEventListener("pageshow", ({ persisted }) => persisted && !ended && open());
  if (!document.hidden) open();
})();
