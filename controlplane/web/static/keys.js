/* Keys, the list of keys, and the colours without a reload. Nothing here is needed to use a page. */
(() => {
  const help = document.getElementById("help");
  const typing = (element) => element.closest("input, textarea, select, [contenteditable]");
  const rows = () => [...document.querySelectorAll(".list tbody tr, main .rows > *, .now > *, .days li")].filter((row) => row.querySelector("a"));
  let waiting = 0;

  function move(by) {
    const all = rows();
    const here = all.findIndex((row) => row.contains(document.activeElement));
    all[Math.max(0, Math.min(all.length - 1, here < 0 ? 0 : here + by))]?.querySelector("a").focus();
  }

  function search() {
    const box = document.querySelector("main input[type=search]");
    if (box) box.select();
    else document.querySelector("[data-search]")?.click();
  }

  const commands = {
    "/": search,
    "?": () => help.showModal(),
    j: () => move(1),
    k: () => move(-1),
    a: () => document.querySelector("[data-approve]")?.focus(),
    "[": () => document.querySelector("main a[rel=prev]")?.click(),
    "]": () => document.querySelector("main a[rel=next]")?.click(),
    g: () => {
      waiting = setTimeout(() => { waiting = 0; }, 1000);
    },
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help?.open) return;
    if (typing(event.target)) return void (event.key === "Escape" && event.target.blur());
    const go = waiting && document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    clearTimeout(waiting);
    waiting = 0;
    const command = go ? () => go.click() : commands[event.key];
    if (!command) return;
    event.preventDefault();
    command();
  });

  for (const button of document.querySelectorAll("[data-help]")) {
    button.hidden = false;
    button.addEventListener("click", () => help.showModal());
  }
  document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  if (location.hash === "#search") search();

  document.querySelector("[data-theme-form]")?.addEventListener("submit", (event) => {
    const choice = event.submitter?.value;
    if (!choice) return;
    event.preventDefault();
    document.cookie = `theme=${choice}; path=/; max-age=31536000; samesite=lax`;
    if (choice === "auto") document.documentElement.removeAttribute("data-bs-theme");
    else document.documentElement.dataset.bsTheme = choice;
    for (const button of event.target.querySelectorAll("button")) button.ariaPressed = String(button.value === choice);
  });
})();
