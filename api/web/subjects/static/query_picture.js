// The visitor's own picture, with the part and the turn of a match drawn on it.
import { shownName, turnOf } from "./words.js";

const byId = (id) => document.getElementById(id);

export function createQueryPicture() {
  const image = byId("preview");
  let blobAddress = "";
  let resting = null; // the match that is drawn while the visitor looks at none

  image.addEventListener("error", () => {
    byId("shown").hidden = true;
    byId("unshown").hidden = !blobAddress; // of an image that is not known there is nothing to show
  });

  function show(address, given) {
    const name = shownName(given, "a picture");
    URL.revokeObjectURL(blobAddress);
    blobAddress = address.startsWith("blob:") ? address : "";
    byId("unshown").hidden = true;
    byId("unshown").textContent = `${name} (this browser cannot show it)`;
    byId("shown").hidden = false;
    image.alt = `Your picture: ${name}`;
    image.src = address;
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
    byId("shown").hidden = true;
    byId("unshown").hidden = true;
    rest(null);
  }

  image.addEventListener("load", () => draw(resting));
  return { show, hide, rest, point: (match) => draw(match ?? resting) };
}
