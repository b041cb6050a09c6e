// The report's browser of questions and answers. Texts are inserted through textContent only.
"use strict";
(() => {
  const PAGE = 25;
  const data = JSON.parse(document.getElementById("data").textContent);
  const answers = data.answers.map(
    ([question, variant, method, output, extracted, f1, em, present, tokens, seconds, first, retrievals, passages,
      prompt, unsupported]) => ({question, variant, method, output, extracted, f1, em, present, tokens, seconds, first,
      retrievals, passages, prompt, unsupported}));
  const questions = data.questions.map(([dataset, text, golden, type, split, id, believed]) =>
    ({dataset, text, golden, type, split, id, believed, answers: [], words: ""}));
  for (const answer of answers) questions[answer.question].answers.push(answer);
  for (const q of questions)
    q.words = [q.text, ...q.golden, q.id, q.type, ...q.answers.map((a) => a.output)].join("\n").toLowerCase();

  const make = (tag, text = "", name = "", ...children) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (name) element.className = name;
    element.append(...children);
    return element;
  };
  const choice = (label, options) => {
    const select = make("select");
    options.forEach(([value, text]) => select.append(new Option(text, value)));
    return [make("label", label, "", select), select];
  };
  const all = (word, names) => [["", word], ...names.map((name, place) => [place, name || "(plain)"])];

  const [datasetLabel, dataset] = choice("Data set", all("all", data.datasets));
  const [variantLabel, variant] = choice("Variant", all("all", data.variants));
  const [methodLabel, method] = choice("Method", all("any", data.methods));
  const [verdictLabel, verdict] = choice("Its answer", [["", "right or wrong"], ["present", "answer present"],
    ["absent", "answer not present"], ["em", "exact match"], ["wrong", "no exact match"]]);
  const search = make("input");
  search.type = "search";
  const others = make("input");
  others.type = "checkbox";
  others.checked = true;
  const filters = make("form", "", "filters", datasetLabel, variantLabel, methodLabel, verdictLabel,
    make("label", "Search in questions and answers", "", search),
    make("label", "", "tick", others, "show the other answers too"));
  datasetLabel.hidden = data.datasets.length < 2;
  variantLabel.hidden = data.variants.length < 2;
  const list = make("div");
  const pager = make("div", "", "pager");
  const note = data.prompts ? [] : [make("p", "Prompts are left out: they would make this page too large.", "note")];
  document.getElementById("browser").append(filters, ...note, pager, list);

  const VERDICTS = {"": () => true, present: (a) => a.present === true, absent: (a) => a.present === false,
    em: (a) => a.em === 100, wrong: (a) => a.em !== null && a.em < 100};
  const is = (select, value) => select.value === "" || Number(select.value) === value;
  const chosen = (answer) =>
    is(variant, answer.variant) && is(method, answer.method) && VERDICTS[verdict.value](answer);
  let page = 0;
  let found = [];

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = questions.filter((q) => is(dataset, q.dataset) && q.answers.some(chosen) &&
      words.every((word) => q.words.includes(word)));
    page = 0;
    render();
  };
  const render = () => {
    list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(card));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const turn = (text, to) => {
      const button = make("button", text);
      button.type = "button";
      button.disabled = to < 0 || to >= pages;
      button.addEventListener("click", () => { page = to; render(); filters.scrollIntoView(); });
      return button;
    };
    pager.replaceChildren(turn("‹ previous", page - 1), turn("next ›", page + 1),
      make("span", `${found.length} of ${questions.length} questions, page ${page + 1} of ${pages}`));
  };

  const number = (value, digits) => value === null ? "–" : value.toFixed(digits);
  const named = (a) => data.methods[a.method] + (data.variants[a.variant] ? ` (${data.variants[a.variant]})` : "");
  const card = (q) => {
    const narrowed = variant.value !== "" || method.value !== "" || verdict.value !== "";
    const visible = q.answers.filter((a) => chosen(a) || (others.checked && is(variant, a.variant)));
    const table = make("table");
    const titles = ["Method", "F1", "EM", "Present", "Tokens", "First token, s", "s",
      "Retrievals", "Unsupported %", "Output, the scored part marked"];
    const shown = titles.filter((title) => title !== "Unsupported %" || visible.some((a) => a.unsupported !== null));
    const header = make("tr");
    shown.forEach((title) => header.append(make("th", title)));
    table.append(header);
    for (const a of visible) {
      const row = make("tr", "", narrowed && chosen(a) ? "chosen" : "");
      row.append(make("td", named(a), "short"), make("td", number(a.f1, 0), "number"), make("td", number(a.em, 0), "number"),
        make("td", a.present === null ? "–" : a.present ? "yes" : "no", a.present ? "right" : ""),
        make("td", String(a.tokens), "number"), make("td", number(a.first, 2), "number"),
        make("td", number(a.seconds, 2), "number"), make("td", String(a.retrievals), "number"));
      if (shown.includes("Unsupported %")) row.append(make("td", number(a.unsupported, 0), "number"));
      row.append(output(a));
      table.append(row);
    }
    const about = [data.datasets[q.dataset], `type: ${q.type}`, `documents: ${q.split}`, q.id].join(" · ");
    return make("section", "", "question", make("h3", q.text),
      make("div", q.golden.length ? `True answer: ${q.golden.join(" / ")}` : "No answer is known."),
      ...(q.believed.length ? [make("div", `Documents altered; true answer: ${q.believed.join(" / ")}`)] : []),
      make("div", about, "note"), make("div", "", "scroll", table), ...passageLists(visible), ...prompts(visible));
  };
  const output = (a) => {
    const cell = make("td", "", "output");
    // the official extraction looks behind the first of these words, where there are any
    const behind = a.output.indexOf("the answer is");
    let start = a.extracted ? a.output.indexOf(a.extracted, Math.max(0, behind)) : -1;
    if (start < 0 && a.extracted) start = a.output.indexOf(a.extracted);
    if (start < 0) {
      cell.textContent = a.output.trim() || "(empty)";
      return cell;
    }
    const end = start + a.extracted.length;
    cell.append(a.output.slice(0, start), make("mark", a.output.slice(start, end)), a.output.slice(end));
    return cell;
  };
  const fold = (title, fill) => {
    const details = make("details", "", "", make("summary", title));
    details.addEventListener("toggle", () => { if (details.children.length === 1) details.append(...fill()); });
    return details;
  };
  const passageLists = (visible) => {
    const lists = new Map();
    for (const a of visible.filter((each) => each.passages.length)) {
      const key = a.passages.map((p) => p[0]).join(",");
      if (!lists.has(key)) lists.set(key, {passages: a.passages, of: []});
      lists.get(key).of.push(a);
    }
    return [...lists.values()].map(({passages, of}) => {
      const gold = passages.filter((p) => p[2]).length;
      const whose = lists.size > 1 ? ` of ${of.map(named).join(", ")}` : "";
      return fold(`${passages.length} passages${whose}, ${gold} gold`, () => passages.map(([place, score, isGold]) => {
        const [id, title, text] = data.passages[place];
        return make("p", "", isGold ? "gold" : "", make("strong", title || id),
          ` (${isGold ? "gold, " : ""}score ${score}) `, text);
      }));
    });
  };
  const prompts = (visible) => {
    const with_ = visible.filter((a) => a.prompt !== null);
    if (!data.prompts || !with_.length) return [];
    return [fold("Prompts", () => with_.map((a) => fold(named(a), () => [make("pre", data.prompts[a.prompt])])))];
  };

  for (const select of [dataset, variant, method, verdict]) select.addEventListener("change", filter);
  others.addEventListener("change", render);
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); });
  filters.addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
