// The copy button of an example copies its code alone: neither prompts nor what Python printed.

// The code of a session: lines after ">>> " and "... "; all else is output. Text without a prompt stays as it is.
export function withoutPrompts(text) {
  const lines = text.replace(/\n+$/, "").split("\n");
  const console = lines.some((line) => line.startsWith("$ "));
  if (!console && !lines.some((line) => line.startsWith(">>> "))) return text;
  const prompt = console ? /^\$ ?/ : /^(>>>|\.\.\.)( |$)/;
  return lines.filter((line) => prompt.test(line)).map((line) => line.replace(prompt, "")).join("\n");
}

if (globalThis.document) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".md-code__button[data-md-type=copy], .md-clipboard");
    const code = button?.closest(".highlight, pre")?.querySelector("code");
    if (!code) return;
    const text = withoutPrompts(code.textContent);
    if (text === code.textContent) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    navigator.clipboard.writeText(text).then(() => {
      const title = button.title;
      button.title = "Copied without prompts";
      setTimeout(() => { button.title = title; }, 2000);
    });
  }, true);
}
