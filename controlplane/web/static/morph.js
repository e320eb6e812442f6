/* Turns one element into another by changing only what differs, so that focus, selection, scroll and open details
   stay. `hx-swap="morph"` and the `status` events of live.js use it. */
(() => {
  const kept = (node, name) => name === "open" && (node.localName === "details" || node.localName === "dialog");

  function attributes(from, to) {
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && !kept(from, name)) from.removeAttribute(name);
    }
    for (const { name, value } of to.attributes) {
      if (from.getAttribute(name) !== value && !kept(from, name)) from.setAttribute(name, value);
    }
  }

  function morph(from, to) {
    if (from.isEqualNode(to)) return;
    if (from.nodeName !== to.nodeName || from.id !== to.id) return from.replaceWith(to);
    if (from.nodeType !== Node.ELEMENT_NODE) return void (from.nodeValue = to.nodeValue);
    attributes(from, to);
    const fresh = [...to.childNodes];
    for (const node of fresh) {
      const old = from.childNodes[fresh.indexOf(node)];
      // An element whose id is further down moves up as it is: rows inserted above do not rewrite the rows below.
      const same = node.id && old?.id !== node.id && [...from.children].find((child) => child.id === node.id);
      if (same) from.insertBefore(same, old);
      if (same || old) morph(same || old, node);
      else from.append(node);
    }
    while (from.childNodes.length > fresh.length) from.lastChild.remove();
  }

  /* Each element with an id replaces the one of that id on the page. Elements the page does not have are ignored. */
  window.morphById = (elements) => {
    for (const element of elements) {
      const old = element.id && document.getElementById(element.id);
      if (!old || old.isEqualNode(element)) continue;
      const { id } = element;
      morph(old, element);
      window.htmx?.process(document.getElementById(id));
    }
    document.dispatchEvent(new Event("morphed"));
  };

  window.htmx?.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap(style, target, fragment) {
      if (style !== "morph") return false;
      const fresh = fragment.firstElementChild;
      if (fresh) morph(target, fresh);
      return [document.getElementById(target.id) || target];
    },
  });
})();
