// The token of this visit, for servers that ask for one. Forgotten when the tab is closed.

export const token = {
  get value() {
    return sessionStorage.getItem("iqdb-token") ?? "";
  },
  set value(text) {
    sessionStorage.setItem("iqdb-token", text.trim());
  },
};
