/* Keeps <time data-ago>, <time data-since> and <time data-countdown> true, each second, by the server's clock.
   The words are those of controlplane/web/templatetags/ui.py, which tests/web/test_times.py compares. */
(() => {
  const MINUTE = 60, HOUR = 3600, DAY = 86400, space = "\u00a0";
  const pad = (number) => String(number).padStart(2, "0");

  const ways = {
    ago(seconds) {
      const size = Math.abs(seconds);
      if (size < 5) return "now";
      const [count, word] =
        size < MINUTE ? [size, "s"] : size < HOUR ? [size / MINUTE, "min"] : size < DAY ? [size / HOUR, "h"]
        : [size / DAY, size < 2 * DAY ? "day" : "days"];
      return seconds > 0 ? `${Math.floor(count)}${space}${word} ago` : `in ${Math.floor(count)}${space}${word}`;
    },
    since(seconds) {
      const whole = Math.max(0, Math.floor(seconds));
      for (const [size, big, small, below] of [[DAY, "d", "h", HOUR], [HOUR, "h", "m", MINUTE], [MINUTE, "m", "s", 1]]) {
        if (whole >= size) return [Math.floor(whole / size), big, Math.floor((whole % size) / below), small].join(space);
      }
      return `${whole}${space}s`;
    },
    countdown(seconds) {
      const left = Math.max(0, Math.ceil(-seconds)), hours = Math.floor(left / HOUR);
      const clock = `${pad(Math.floor((left % HOUR) / MINUTE))}:${pad(left % MINUTE)}`;
      return hours ? `${hours}:${clock}` : clock;
    },
  };

  const ahead = (Date.parse(document.body.dataset.now) || Date.now()) - Date.now();
  window.timeWords = (way, seconds) => ways[way](seconds);

  function tick() {
    const now = Date.now() + ahead;
    for (const way of Object.keys(ways)) {
      for (const element of document.querySelectorAll(`time[data-${way}]`)) {
        const words = ways[way]((now - Date.parse(element.dateTime)) / 1000);
        if (element.textContent !== words) element.textContent = words;
      }
    }
  }

  tick();
  setInterval(tick, 1000);
  document.addEventListener("morphed", tick);
  document.body.addEventListener("htmx:afterSwap", tick);
})();
