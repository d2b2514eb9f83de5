/* Copyright (c) 2026, stackops.nova contributors
   GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later */
"use strict";
(() => {
  const table = document.querySelector(".hosts");
  const body = table.tBodies[0];
  const status = document.querySelector("[role=status]");
  const compareText = new Intl.Collator(undefined, {numeric: true}).compare;
  const headers = [...table.tHead.rows[0].cells];

  // Unknown comes last, whichever way it is sorted.
  const sort = (header, column) => {
    const before = header.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : column > 1;
    const rows = [...body.rows].map((row) => {
      const data = row.cells[column].querySelector("data");
      return {row, value: column === 0 ? row.cells[0].textContent : data && Number(data.value)};
    });
    const known = rows.filter(({value}) => value !== null);
    const unknown = rows.filter(({value}) => value === null);
    const sign = descending ? -1 : 1;
    known.sort((a, b) => sign * (column === 0 ? compareText(a.value, b.value) : a.value - b.value));
    body.append(...[...known, ...unknown].map(({row}) => row));
    headers.forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    status.textContent = `Sorted by ${header.textContent}, ${descending ? "descending" : "ascending"}`;
  };

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header, column));
    header.append(button);
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
})();
