"use strict";
(() => {
  const log = document.getElementById("log");
  const state = document.getElementById("state");
  const retryAfter = 10000;
  let output = null;
  let step = null;
  let last = "";

  function begin(title) {
    const section = document.createElement("section");
    const heading = document.createElement("h2");
    heading.textContent = title;
    output = document.createElement("pre");
    section.append(heading, output);
    log.append(section);
  }

  function write(text, kind) {
    if (kind === "stdout") {
      output.append(text);
      return;
    }
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    output.append(span);
  }

  function show(entry) {
    if (entry.cut) {
      if (!output) begin("Log");
      write(`\n${entry.cut.bytes} bytes were cut here to keep the log within its limit\n`, "cut");
      return;
    }
    const { step: of, stream, text } = entry.piece;
    if (stream === "heading") {
      begin(text);
    } else {
      if (of !== step || !output) begin(`Step ${of}`);
      write(text, stream);
    }
    step = of;
  }

  function connect() {
    const query = last ? `?after=${encodeURIComponent(last)}` : "";
    const source = new EventSource(document.body.dataset.events + query);
    source.addEventListener("log", (event) => {
      const page = document.documentElement;
      const atEnd = page.scrollHeight - page.clientHeight - page.scrollTop < 40;
      JSON.parse(event.data).forEach(show);
      last = event.lastEventId;
      if (atEnd) page.scrollTop = page.scrollHeight;
    });
    source.addEventListener("state", (event) => {
      state.textContent = JSON.parse(event.data).text;
    });
    source.addEventListener("attempt", (event) => {
      step = null;
      begin(`Attempt ${JSON.parse(event.data).attempt}`);
    });
    source.addEventListener("end", () => source.close());
    source.addEventListener("error", () => {
      // The browser tries again by itself unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, retryAfter);
    });
  }

  connect();
})();
