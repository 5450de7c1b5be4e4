"use strict";
(() => {
  const log = document.getElementById("log");
  const state = document.getElementById("state");
  const retryAfter = 10000;
  const group = "##[group]";
  const endOfGroup = "##[endgroup]";
  let last = "";
  let current = null;
  // Of this attempt, by number: steps in the background go on below their own headings.
  let steps = new Map();

  function begin(title) {
    const section = document.createElement("section");
    const heading = document.createElement("h2");
    heading.textContent = title;
    const output = document.createElement("pre");
    section.append(heading, output);
    log.append(section);
    return { title, output, into: output, isAtLineStart: true, held: "", heldKind: "" };
  }

  function append(step, text, kind) {
    if (!text) return;
    if (kind === "stdout") {
      step.into.append(text);
    } else {
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = text;
      step.into.append(span);
    }
    step.isAtLineStart = text.endsWith("\n");
  }

  // Whether the start of a line is, or may become, what begins or ends a group.
  function mayMark(line) {
    return [group, endOfGroup].some((mark) => mark.startsWith(line) || line.startsWith(mark));
  }

  function mark(step, line) {
    step.into = step.output;
    if (!line.startsWith(group)) return;
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = line.slice(group.length) || "Group";
    details.append(summary);
    step.output.append(details);
    step.into = details;
  }

  // What was held back is only text if another stream goes on, or nothing does.
  function release(step) {
    const { held, heldKind } = step;
    step.held = "";
    append(step, held, heldKind);
  }

  function write(step, text, kind) {
    if (step.heldKind !== kind) release(step);
    const lines = (step.held + text).match(/[^\n]*\n|[^\n]+/g) || [];
    step.held = "";
    let plain = "";
    for (const line of lines) {
      const isWhole = line.endsWith("\n");
      if (step.isAtLineStart && !isWhole && mayMark(line)) {
        step.held = line;
        step.heldKind = kind;
      } else if (step.isAtLineStart && (line.startsWith(group) || line.startsWith(endOfGroup))) {
        append(step, plain, kind);
        plain = "";
        mark(step, line.trimEnd());
      } else {
        plain += line;
        step.isAtLineStart = isWhole;
      }
    }
    append(step, plain, kind);
  }

  function show(entry) {
    if (entry.cut) {
      current ??= begin("Log");
      release(current);
      write(current, `\n${entry.cut.bytes} bytes were cut here to keep the log within its limit\n`, "cut");
      return;
    }
    const { step: of, stream, text } = entry.piece;
    const known = steps.get(of);
    if (stream === "heading") {
      if (known && known.title === text) {
        current = known;
        return;
      }
      if (known) release(known);
      current = begin(text);
      steps.set(of, current);
      return;
    }
    // What is said of the whole job stands where it was said.
    if (of === 0 && (!known || known !== current)) steps.set(of, begin("Job"));
    else if (!known) steps.set(of, begin(`Step ${of}`));
    current = steps.get(of);
    write(current, text, stream);
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
      steps.forEach(release);
      steps = new Map();
      current = begin(`Attempt ${JSON.parse(event.data).attempt}`);
    });
    source.addEventListener("end", () => {
      steps.forEach(release);
      source.close();
    });
    source.addEventListener("error", () => {
      // The browser tries again by itself unless it was refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, retryAfter);
    });
  }

  connect();
})();
