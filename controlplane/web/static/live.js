/* Keeps one event stream open for the page and hands on what it says; docs/ui.md lists the events.
   The browser's own reconnection forgets the cursor after an error of the server, so this file reconnects itself. */
(() => {
  const { body } = document;
  const word = document.getElementById("live");
  const FIRST = 500, LONGEST = 10_000, GIVE_UP = 5, POLL = 5_000;
  let cursor = body.dataset.cursor || "", source = null, failures = 0, retry = 0, polling = 0, ended = false;

  const trigger = (name) => window.htmx?.trigger(body, name);

  function say(tone, text) {
    if (word) word.innerHTML = `<span class="state ${tone}">${text}</span>`;
  }

  function open() {
    clearTimeout(retry);
    const url = new URL(body.dataset.stream, location.href);
    if (cursor) url.searchParams.set("after", cursor);
    source = new EventSource(url);
    source.onopen = () => {
      failures = 0;
      stopPolling();
      say("ok", "live");
    };
    source.onerror = () => {
      close();
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
    source?.close();
    source = null;
  }

  /* Without a stream: the page is asked for again, and its live parts are taken from the answer. */
  async function poll() {
    trigger("news");
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
    },
    news(words) {
      for (const topic of words.split(/\s+/).filter(Boolean)) topics.add(topic);
      telling ||= setTimeout(tell, 300);
    },
    end() {
      ended = true;
      close();
      say("idle", "ended");
    },
  };

  body.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const { responseURL } = detail.xhr;
    if (!responseURL || new URL(responseURL).pathname !== body.dataset.login) return;
    detail.shouldSwap = false;
    leave(responseURL);
  });

  if (!body.dataset.stream) return;
  document.addEventListener("visibilitychange", () => {
    if (ended) return;
    close();
    clearTimeout(retry);
    stopPolling();
    if (!document.hidden) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", ({ persisted }) => persisted && !ended && open());
  if (!document.hidden) open();
})();
