// The sketch: paint, and see what it finds. Strokes are kept, so that they can be undone.

const byId = (id) => document.getElementById(id);
const COLOURS = [
  ["black", "#111111"], ["white", "#ffffff"], ["grey", "#8a8f98"], ["brown", "#7a4a25"], ["red", "#d3281f"],
  ["orange", "#f08a1d"], ["yellow", "#f6d33c"], ["green", "#3f8f3a"], ["sky blue", "#7fb8ea"], ["blue", "#1d4fa8"],
  ["violet", "#6d3a9c"], ["skin", "#e9bd9a"],
];
const PAUSE_MS = 500; // after a stroke, before it is searched

// onSketch(blob, isAsked): search this sketch; isAsked: the visitor has pressed Search.
// onEmpty(isAsked): the canvas is empty, again or still.
export function createSketch({ onSketch, onEmpty }) {
  const canvas = byId("canvas");
  const pen = canvas.getContext("2d");
  let strokes = []; // {colour, size, points} or {colour} for a fill
  let colour = COLOURS[9][1];
  let waiting = 0;

  for (const [name, value] of COLOURS) {
    const button = document.createElement("button");
    button.type = "button";
    button.style.background = value;
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => choose(value));
    button.dataset.colour = value;
    byId("colours").append(button);
  }
  function choose(value) {
    colour = value;
    for (const one of byId("colours").children) one.setAttribute("aria-pressed", String(one.dataset.colour === value));
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }
  function paint(stroke, from = 0) {
    if (!stroke.points) {
      pen.fillStyle = stroke.colour;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      return;
    }
    Object.assign(pen, { strokeStyle: stroke.colour, lineWidth: stroke.size, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...stroke.points[Math.max(0, from - 1)]);
    for (const point of stroke.points.slice(from)) pen.lineTo(...point);
    pen.stroke();
  }
  function repaint() {
    paint({ colour: "#ffffff" });
    for (const stroke of strokes) paint(stroke);
  }
  function add(stroke) {
    strokes.push(stroke);
    paint(stroke);
  }
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(() => search(), PAUSE_MS);
  }
  function search(isAsked = false) {
    clearTimeout(waiting);
    if (strokes.length === 0) return onEmpty(isAsked);
    canvas.toBlob((blob) => onSketch(blob, isAsked), "image/png");
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    clearTimeout(waiting);
    canvas.setPointerCapture(event.pointerId);
    add({ colour, size: Number(byId("size").value), points: [place(event), place(event)] });
    canvas.onpointermove = (move) => {
      const { points } = strokes.at(-1);
      points.push(place(move));
      paint(strokes.at(-1), points.length - 1);
    };
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (!canvas.onpointermove) return;
      canvas.onpointermove = null;
      later();
    });
  }
  byId("colour").addEventListener("input", (event) => choose(event.target.value));
  byId("fill").addEventListener("click", () => (add({ colour }), later()));
  byId("undo").addEventListener("click", () => {
    strokes.pop();
    repaint();
    if (strokes.length) later();
    else search();
  });
  byId("clear").addEventListener("click", () => {
    strokes = [];
    repaint();
    search();
  });
  byId("find").addEventListener("click", () => search(true));
  choose(colour);
  repaint();
}
