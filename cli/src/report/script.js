// Moving and zooming of the pictures, search, and who reads a node. Without this the page still reads.
"use strict";
for (const figure of document.querySelectorAll(".picture")) {
  const canvas = figure.querySelector(".canvas");
  if (!canvas) continue;
  const view = canvas.querySelector(".view");
  const width = +canvas.dataset.width, height = +canvas.dataset.height;
  let scale = 1, x = 0, y = 0;
  const show = () => view.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  const size = () => canvas.getBoundingClientRect();
  const zoom = (factor, cx, cy) => {
    const next = Math.min(4, Math.max(0.02, scale * factor));
    x = cx - (cx - x) * next / scale;
    y = cy - (cy - y) * next / scale;
    scale = next;
    show();
  };
  // The top of the picture, at a size that can be read where it does not fit.
  const start = () => {
    const box = size();
    scale = Math.min(1, Math.max(0.85, box.width / width));
    x = (box.width - width * scale) / 2;
    y = 4;
    const first = view.querySelector(".node.port");
    if (width * scale > box.width && first) {
      const at = first.getBBox(), shift = first.transform.baseVal[0]?.matrix.e ?? 0;
      x = Math.min(8, box.width / 2 - (shift + at.width / 2 + 16) * scale);
    }
    show();
  };
  const fit = () => {
    const box = size();
    scale = Math.min(1, box.width / width, box.height / height);
    x = (box.width - width * scale) / 2;
    y = (box.height - height * scale) / 2;
    show();
  };
  const centre = (node) => {
    const box = size(), at = node.getBoundingClientRect();
    if (scale < 0.6) zoom(0.8 / scale, box.width / 2, box.height / 2);
    const now = node.getBoundingClientRect();
    x += box.left + box.width / 2 - (now.left + now.width / 2);
    y += box.top + box.height / 2 - (now.top + now.height / 2);
    show();
  };
  figure.centre = centre;
  const held = new Map();
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    held.set(event.pointerId, event);
    moved = false;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const others = [...held.values()].filter((other) => other.pointerId !== event.pointerId);
    if (Math.abs(event.clientX - last.clientX) + Math.abs(event.clientY - last.clientY) > 2 && !moved) {
      moved = true;
      canvas.setPointerCapture(event.pointerId);
    }
    if (others.length) {
      const other = others[0], box = size();
      const far = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      zoom(far(event) / Math.max(1, far(last)), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
    } else {
      x += event.clientX - last.clientX;
      y += event.clientY - last.clientY;
      show();
    }
    held.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = size();
    zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  canvas.addEventListener("click", (event) => {
    if (moved) return;
    for (const lit of canvas.querySelectorAll(".lit, .chosen")) lit.classList.remove("lit", "chosen");
    const node = event.target.closest(".node");
    if (!node) return;
    node.classList.add("chosen");
    const n = node.dataset.n, whole = node.parentNode;
    for (const line of whole.querySelectorAll(`path[data-f="${n}"], path[data-t="${n}"]`)) line.classList.add("lit");
  });
  figure.addEventListener("click", (event) => {
    const box = size(), what = event.target.dataset.do;
    if (what === "in") zoom(1.35, box.width / 2, box.height / 2);
    if (what === "out") zoom(1 / 1.35, box.width / 2, box.height / 2);
    if (what === "fit") fit();
    if (what === "wide") {
      figure.classList.toggle("wide");
      start();
    }
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") figure.classList.remove("wide");
  });
  start();
}
const search = document.getElementById("search"), found = document.getElementById("found");
let matches = [], at = -1;
const nodes = [...document.querySelectorAll(".canvas .node")];
search.addEventListener("input", () => {
  const text = search.value.trim().toLowerCase();
  for (const node of nodes) node.classList.remove("found", "current");
  matches = text ? nodes.filter((node) => node.dataset.name.toLowerCase().includes(text)) : [];
  for (const node of matches) node.classList.add("found");
  at = -1;
  found.textContent = text ? `${matches.length} found` : "";
});
search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !matches.length) return;
  if (at >= 0) matches[at].classList.remove("current");
  at = (at + (event.shiftKey ? matches.length - 1 : 1)) % matches.length;
  const node = matches[at];
  node.classList.add("current");
  const figure = node.closest(".picture");
  figure.scrollIntoView({ block: "nearest" });
  figure.centre(node);
  found.textContent = `${at + 1} of ${matches.length}`;
});
// A link to a pass opens what it changed.
const open = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", open);
open();
