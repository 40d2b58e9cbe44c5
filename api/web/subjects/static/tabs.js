// Two tabs, by mouse and by arrow keys.
import { keepFocus } from "./focus.js";

// onSelect(id of the tab): the visitor has chosen one. Returns a function that shows a tab by its id.
export function createTabs(list, onSelect) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  function select(chosen) {
    keepFocus(() => show(chosen));
  }
  function show(chosen) {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
  }
  function choose(chosen) {
    select(chosen);
    onSelect(chosen.id);
  }
  for (const tab of tabs) tab.addEventListener("click", () => choose(tab));
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!steps) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + steps + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
  return (id) => select(tabs.find((tab) => tab.id === id));
}
