// A button that is gone once it was pressed, or a match of the search before, must not take the focus with it: the
// next Tab would begin at the top of the page.

// Changes the page; what has the focus then, if it is gone, is what is said, or else the tab.
export function keepFocus(change) {
  const focused = document.activeElement;
  change();
  if (focused.getClientRects().length > 0) return;
  const places = [document.getElementById("message"), document.querySelector("[role=tab][aria-selected=true]")];
  places.find((place) => !place.hidden).focus({ preventScroll: true });
}
