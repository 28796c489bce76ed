"use strict";
document.documentElement.classList.add("js");
(() => {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const find = document.getElementById("find");
  const state = document.getElementById("state");
  const shown = document.getElementById("shown");
  const texts = rows.map((row) => row.textContent.toLowerCase());

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    rows.forEach((row, i) => {
      const fits = (!state.value || row.dataset.state === state.value) && words.every((w) => texts[i].includes(w));
      row.hidden = !fits;
      n += fits;
    });
    shown.textContent = n === rows.length ? "" : `${n} of ${rows.length} shown`;
  };
  find.addEventListener("input", filter);
  state.addEventListener("change", filter);
  find.form.addEventListener("submit", (event) => event.preventDefault());

  // What is highlighted is so in the table, on the plots and among the pictures.
  const light = document.getElementById("highlight");
  light.addEventListener("input", () => {
    const words = light.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => row.classList.toggle("lit", words.length > 0 && words.every((w) => texts[i].includes(w))));
    for (const mark of document.querySelectorAll("svg [data-row]")) {
      mark.classList.toggle("lit", document.getElementById(mark.dataset.row).classList.contains("lit"));
    }
    for (const card of document.querySelectorAll(".card")) {
      card.classList.toggle("lit", document.getElementById(card.id.slice(1)).classList.contains("lit"));
    }
  });

  // A column that is not wanted.
  const titles = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent.trim().replace(/\u00a0/g, " "));
  for (const box of document.querySelectorAll(".columns input")) {
    box.addEventListener("change", () => {
      table.classList.toggle(`no-${titles.indexOf(box.dataset.title) + 1}`, !box.checked);
    });
  }

  // Numbers sort by data-v, texts by what is shown; empty cells come last either way.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim().toLowerCase();
    return text === "" ? null : cell.dataset.v === undefined ? text : Number(text);
  };
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -1 : a > b ? 1 : 0) * sign;
  };
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) button.append(head.firstChild);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = rows.map((row, rank) => [value(row, column), rank, row]);
      sorted.sort((a, b) => compare(a[0], b[0], down ? -1 : 1) || a[1] - b[1]);
      body.append(...sorted.map((entry) => entry[2]));
    });
  });

  // A tile of the summary shows the scans in that state; no tile: all of them.
  for (const tile of document.querySelectorAll("a.tile")) {
    tile.addEventListener("click", () => {
      const known = Array.from(state.options).some((option) => option.value === tile.dataset.state);
      state.value = known ? tile.dataset.state : "";
      find.value = "";
      filter();
    });
  }
  // A link to a row that the filter hides shows the row.
  const reveal = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row && row.hidden) {
      find.value = state.value = "";
      filter();
      row.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  for (const mark of document.querySelectorAll("svg [data-row]")) {
    mark.addEventListener("click", () => { location.hash = mark.dataset.row; });
  }
  // A picture enlarges on a click; the arrow keys go to the next one, Esc goes back.
  const pictures = Array.from(document.querySelectorAll(".larger"));
  const large = document.getElementById("large");
  const enlarge = (index) => {
    const image = pictures[(index + pictures.length) % pictures.length];
    const [shown, words] = [new Image(), document.createElement("p")];
    shown.src = image.src;
    shown.alt = image.alt;
    shown.style.setProperty("--shape", image.clientWidth / image.clientHeight);
    words.textContent = [image.alt, image.title].filter(Boolean).join("; ");
    large.dataset.at = pictures.indexOf(image);
    large.replaceChildren(shown, words);
    if (!large.open) large.showModal();
  };
  pictures.forEach((image, index) => {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.setAttribute("aria-label", `${image.alt}: enlarge`);
    image.addEventListener("click", () => enlarge(index));
    image.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(index);
    });
  });
  large.addEventListener("click", () => large.close());
  large.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) enlarge(Number(large.dataset.at) + by);
  });
  // On paper each series has a page of its own: its plots, and below them the rows of its scans.
  let order = null;
  const restore = () => {
    if (!order) return;
    body.append(...order);
    order = null;
    for (const made of document.querySelectorAll("table.of-series")) made.remove();
  };
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
    restore();
    order = Array.from(body.rows);
    for (const figure of document.querySelectorAll("figure[data-rows]")) {
      const [first, last] = figure.dataset.rows.split(" ").map((id) => rows.indexOf(document.getElementById(id)));
      const made = figure.appendChild(document.createElement("table"));
      made.className = `of-series ${table.className}`;
      made.append(table.tHead.cloneNode(true), document.createElement("tbody"));
      made.tBodies[0].append(...rows.slice(first, last + 1));
    }
    table.closest("section").classList.toggle("none", !body.rows.length);
  });
  addEventListener("afterprint", restore);
})();
