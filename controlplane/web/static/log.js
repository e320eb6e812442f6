/* The log: opens at its end and follows it, loads earlier parts when the reader reaches the top, can be searched, and
   opens at a line by its link (#L123). live.js hands over new lines as `lines` events; `poll` asks for them. */
(() => {
  const list = document.getElementById("log");
  if (!list) return;
  const KEEP = 5000, TAIL = 500;
  const pane = list.parentElement, url = pane.dataset.logUrl;
  const follow = document.querySelector("[data-log-follow]"), jump = document.querySelector("[data-log-new]");
  const found = document.querySelector("[data-log-found]"), count = document.getElementById("log-count");
  let following = true, atEnd = true, above = true, unread = 0, loading = false;

  const seq = (line) => Number(line?.id.slice(1) || 0);
  const first = () => seq(list.firstElementChild), last = () => seq(list.lastElementChild);

  async function ask(parameter, value) {
    const address = new URL(url, location.href);
    address.searchParams.set(parameter, value);
    const answer = await fetch(address, { headers: { "HX-Request": "true" } });
    return answer.ok && !answer.redirected ? (await answer.text()).trim() : null;
  }

  function setFollowing(on) {
    following = on;
    follow.ariaPressed = String(on);
    if (!on) return;
    unread = 0;
    jump.hidden = true;
    pane.scrollTop = pane.scrollHeight;
  }

  /* Lines the page already has are dropped: a stream that comes back may repeat its last ones. */
  function fresh(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const known = last();
    return [...template.content.children].filter((line) => seq(line) > known);
  }

  function append(html) {
    const lines = fresh(html);
    if (!lines.length) return;
    if (count) count.textContent = `${seq(lines.at(-1)).toLocaleString("en")} lines`;
    if (!following && (!atEnd || list.childElementCount >= 2 * KEEP)) atEnd = false;
    else list.append(...lines);
    if (following) {
      while (list.childElementCount > KEEP) list.firstElementChild.remove();
      above ||= first() > 1;
      pane.scrollTop = pane.scrollHeight;
    } else {
      unread += lines.length;
      jump.textContent = `${unread.toLocaleString("en")} new line${unread === 1 ? "" : "s"}`;
      jump.hidden = false;
    }
  }

  async function earlier() {
    if (loading || !above || !list.childElementCount || first() <= 1) return;
    loading = true;
    try {
      const html = await ask("before", first());
      if (html === "") above = false;
      if (!html) return;
      const height = pane.scrollHeight, top = pane.scrollTop;
      list.insertAdjacentHTML("afterbegin", html);
      pane.scrollTop = top + pane.scrollHeight - height;
    } finally {
      loading = false;
    }
  }

  /* Below a line opened by its link there may be more than the page holds. */
  async function later() {
    if (loading || atEnd) return;
    loading = true;
    try {
      const html = await ask("after", last());
      if (html) list.append(...fresh(html));
      else if (html === "") atEnd = true;
    } finally {
      loading = false;
    }
  }

  async function toEnd() {
    if (!atEnd) {
      const html = await ask("tail", TAIL);
      if (html === null) return;
      list.innerHTML = html;
      atEnd = above = true;
    }
    setFollowing(true);
  }

  async function show(id) {
    if (!/^L\d+$/.test(id)) return;
    setFollowing(false);
    if (!document.getElementById(id)) {
      const html = await ask("around", id.slice(1));
      if (!html) return;
      list.innerHTML = html;
      above = true;
      atEnd = false;
    }
    for (const line of list.querySelectorAll(".target")) line.classList.remove("target");
    const line = document.getElementById(id);
    line?.classList.add("target");
    line?.scrollIntoView({ block: "center" });
  }

  async function search(event) {
    event.preventDefault();
    const words = new FormData(event.target).get("q").trim();
    found.hidden = !words;
    if (!words) return;
    const html = await ask("q", words);
    const lines = document.createElement("ol");
    lines.innerHTML = html || "";
    const total = lines.childElementCount;
    for (const line of lines.children) line.removeAttribute("id");
    const note = document.createElement("p");
    note.textContent = html === null ? "The search did not answer; the log below is as it was. Try again."
      : total ? `${total} line${total === 1 ? "" : "s"} with “${words}”; a number opens its place.`
      : `No line has “${words}”.`;
    found.replaceChildren(note, lines);
  }

  pane.addEventListener("scroll", () => {
    const bottom = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 24;
    if (bottom && !atEnd) later();
    else if (bottom !== following) setFollowing(bottom);
    if (pane.scrollTop < 200) earlier();
  }, { passive: true });
  list.addEventListener("lines", ({ detail }) => append(detail));
  list.addEventListener("poll", async () => {
    const html = atEnd && (await ask("after", last()));
    if (html) append(html);
  });
  list.addEventListener("click", ({ target }) => {
    const link = target.closest("a[href^='#L']");
    if (link && location.hash === link.hash) show(link.hash.slice(1));
  });
  addEventListener("hashchange", () => show(location.hash.slice(1)));
  document.querySelector("[data-log-search]")?.addEventListener("submit", search);
  follow.addEventListener("click", () => (following ? setFollowing(false) : toEnd()));
  jump.addEventListener("click", toEnd);
  follow.hidden = false;
  if (location.hash.startsWith("#L")) show(location.hash.slice(1));
  else setFollowing(true);
})();
