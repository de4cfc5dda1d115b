// What is wrong with a page's layout, as a list of sentences.
(() => {
  const problems = [], width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) problems.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const scrolls = (element) => element.closest(".scroll, nav");
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (box.width && !scrolls(element) && (box.right > width + 1 || box.left < -1)) {
      problems.push(`<${element.tagName} ${element.className.baseVal ?? element.className}> reaches ${box.left}–${box.right}`);
    }
  }
  // What is left of a box where an element around it cuts off what does not fit.
  const visible = (box, element) => {
    let { left, right, top, bottom } = box;
    for (; element; element = element.parentElement) {
      if (getComputedStyle(element).overflowX === "visible") continue;
      const edge = element.getBoundingClientRect();
      left = Math.max(left, edge.left);
      right = Math.min(right, edge.right);
    }
    return { left, right, top, bottom, width: right - left, height: bottom - top };
  };
  // Boxes of all text that can be seen, a line each; a rotated label's box is larger than its text.
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("title, style, svg.graph, [transform]")) continue;
    if (!parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const whole of range.getClientRects()) {
      const box = visible(whole, parent);
      if (box.width > 1) lines.push({ box, node, section: parent.closest("section, header, nav"), text: node.data.trim().slice(0, 40) });
    }
  }
  for (let i = 0; i < lines.length; i++) {
    for (let j = i + 1; j < lines.length; j++) {
      if (lines[i].section !== lines[j].section || lines[i].node === lines[j].node) continue;
      const a = lines[i].box, b = lines[j].box;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      // Line boxes of one paragraph touch; letters overlap where boxes share a third of a line.
      if (across > 2 && down > Math.min(a.height, b.height) / 3) problems.push(`"${lines[i].text}" overlaps "${lines[j].text}"`);
    }
  }
  return problems;
})();
