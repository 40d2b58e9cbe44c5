// What is asked about: the visitor's own picture, or a known one, with the part and the turn of a match drawn on it.
import { showFirst } from "./pictures.js";
import { shownName, turnOf } from "./words.js";

const byId = (id) => document.getElementById(id);

export function createQueryPicture() {
  const image = byId("preview");
  let blobAddress = "";
  let resting = null; // the match that is drawn while the visitor looks at none

  function showFile(file) {
    const name = shownName(file.name || "pasted", "a picture");
    blobAddress = URL.createObjectURL(file);
    show([{ address: blobAddress }], name, () => {
      byId("unshown").textContent = `${name} (this browser cannot show it)`;
      byId("unshown").hidden = false;
    });
  }

  // choices: as `picturesOf` gives them; an image that is not known has no picture to show.
  function showKnown(choices, name) {
    show(choices, name, () => byId("drop").classList.remove("filled"));
  }

  function show(choices, name, onNone) {
    byId("drop").classList.add("filled");
    image.alt = `Your picture: ${name}`;
    image.onload = () => {
      byId("shown").hidden = false;
      draw(resting);
    };
    showFirst(image, choices, onNone);
  }

  function draw(match) {
    const part = match?.part;
    const isPart = Boolean(part) && image.naturalWidth > 0;
    byId("overlay").toggleAttribute("hidden", !isPart); // an SVG element has no property for it
    if (isPart) {
      byId("overlay").setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`);
      const rectangle = byId("overlay").querySelector("rect");
      for (const side of ["x", "y", "width", "height"]) rectangle.setAttribute(side, part[side]);
    }
    const words = match ? [part ? "this part" : "", turnOf(match)].filter(Boolean).join(", ") : "";
    byId("overlay-word").textContent = words;
    byId("overlay-word").hidden = words === "";
  }

  function rest(match) {
    resting = match;
    draw(match);
  }

  function hide() {
    image.onload = image.onerror = null; // what is still loading is not shown
    image.removeAttribute("src");
    URL.revokeObjectURL(blobAddress);
    byId("drop").classList.remove("filled");
    byId("shown").hidden = true;
    byId("unshown").hidden = true;
    rest(null);
  }

  return { showFile, showKnown, hide, rest, point: (match) => draw(match ?? resting) };
}
