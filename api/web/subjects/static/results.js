// What is said and shown about a search: how far it is, what was found, what went wrong.
import { card } from "./cards.js";
import { keepFocus } from "./focus.js";
import { BADGES, HOW_TO_ADD, asideOf, isLowDetail, kindOf, summary } from "./words.js";

const byId = (id) => document.getElementById(id);
const LOWEST = 0.6; // of the height of the window: what begins below that is hardly seen

export function createResults(onPoint) {
  const saying = document.querySelector(".saying");

  // Replaces all that was said before.
  function say(sentence, options = {}) {
    keepFocus(() => saySimply(sentence, options));
  }

  function saySimply(sentence, { more = "", isError = false, share, isBusy = false, wants, canRetry = false, canTurn = false }) {
    byId("main").classList.add("asked");
    byId("message").hidden = false;
    saying.classList.toggle("error", isError);
    // Only a new sentence is read out, not every step of an upload.
    if (byId("message").textContent !== sentence) byId("message").textContent = sentence;
    byId("more").setAttribute("aria-live", isBusy ? "off" : "polite");
    byId("more").textContent = more;
    byId("more").hidden = more === "";
    byId("progress").hidden = !isBusy;
    if (share === undefined) byId("progress").removeAttribute("value");
    else byId("progress").value = share;
    byId("token-form").hidden = wants !== "token";
    byId("again").hidden = !canRetry;
    byId("turn").hidden = !canTurn;
  }

  function clear() {
    keepFocus(removeMatches);
  }

  function removeMatches() {
    byId("copies").replaceChildren();
    byId("alike").replaceChildren();
    byId("strangers").hidden = true;
    byId("strangers").open = false;
  }

  function show({ matches, isCut, detail, isDamaged }, question, config) {
    clear();
    const cards = (list) => list.map((match) => card(match, config, onPoint));
    if (question.sketch) {
      if (matches.length) say("These look most like it.");
      else say("No pictures are known yet.", { more: HOW_TO_ADD });
      byId("copies").replaceChildren(...cards(matches));
      return null;
    }
    const copies = matches.filter((match) => kindOf(match) !== "alike");
    const strangers = matches.filter((match) => kindOf(match) === "alike");
    const found = { count: matches.length, isCut, detail, isOfKnown: Boolean(question.id) };
    const more = isLowDetail(detail) ? "Plain pictures look like each other, whatever they show." : moreOf(copies, found);
    const isNone = copies.length === 0 && strangers.length > 0;
    const turned = isNone && question.isTurned ? "Turned copies were looked for, too." : "";
    const damage = isDamaged ? "A part of your picture is missing: the file is damaged." : "";
    say(summary(copies, found), {
      more: [more, turned, damage, asideOf(question)].filter(Boolean).join(" "),
      canTurn: isNone && !question.isTurned && !isLowDetail(detail),
    });
    byId("copies").replaceChildren(...cards(copies));
    byId("alike").replaceChildren(...cards(strangers));
    byId("strangers").hidden = strangers.length === 0;
    return copies[0] ?? null;
  }

  function moreOf(copies, { count, isOfKnown }) {
    if (count === 0 && !isOfKnown) return HOW_TO_ADD;
    const probable = copies.filter((match) => kindOf(match) === "probable").length;
    if (probable === 0 || probable === copies.length) return "";
    return `and ${probable} that ${probable === 1 ? "is" : "are"} ${BADGES.probable.toLowerCase()}.`;
  }

  // On a small screen the answer stands below the picture: scroll there for a visitor who has asked.
  function reveal() {
    const { top } = saying.getBoundingClientRect();
    if (top < 0 || top > innerHeight * LOWEST) saying.scrollIntoView();
  }

  function hide() {
    keepFocus(() => {
      removeMatches();
      for (const id of ["message", "more", "progress", "token-form", "again", "turn"]) byId(id).hidden = true;
    });
  }

  return { say, clear, hide, reveal, show };
}
