/* Copyright (c) 2026, stackops.nova contributors
   GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later */
"use strict";
(() => {
  const PAGE = 100;
  const ITEMS = 25;
  const FIRST = {hosts: 15, images: 50};  // what the page has more of is for readers without a script
  const MIB = 1 << 20;
  const status = document.querySelector("[role=status]");
  const compareText = new Intl.Collator(undefined, {numeric: true}).compare;

  const once = (make) => {
    let made;
    return () => made ??= make();
  };
  const data = once(() => JSON.parse(document.querySelector("script[type='application/json']").textContent));

  // Each image on each storage, as plugin_utils/report/data.py packs them.
  const cells = once(() => {
    const {storages, images, cells: packed} = data();
    const [size, instances, freed] = [0, 1, 2].map(() => new Float64Array(storages.length * images.length));
    const has = new Uint8Array(size.length);
    packed.forEach((numbers, storage) => {
      let at = storage * images.length;
      for (let next = 0; numbers && next < numbers.length; at += 1) {
        const number = numbers[next++];
        if (number < 0) {
          at -= number + 1;
          continue;
        }
        const kind = number % 3;
        has[at] = 1;
        size[at] = (number - kind) / 3 * MIB;
        instances[at] = kind === 1 ? 0 : numbers[next++];
        freed[at] = kind === 0 ? 0 : kind === 1 ? size[at] : numbers[next++] * MIB;
      }
    });
    return {has, size, instances, freed, at: (storage, image) => storage * images.length + image};
  });

  const sizeText = (bytes) => {
    let unit = 0;
    for (; bytes >= 999.5 && unit < 6; unit += 1) bytes /= 1024;
    return `${bytes.toFixed(unit > 0 && bytes < 9.95 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit]}`;
  };
  const countText = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
  const cellText = (at) => {
    const {size, instances, freed} = cells();
    return [
      sizeText(size[at]),
      ...(instances[at] ? [countText(instances[at], "instance")] : []),
      ...(freed[at] ? [`${sizeText(freed[at])} removable`] : []),
    ].join(", ");
  };

  const element = (name, attributes, ...children) => {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  };
  const drawing = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  };
  const bar = (parts) => drawing("svg", {class: "bar", "aria-hidden": "true", height: 14}, ...parts.map(
    ([part, x, width]) => drawing("rect", {class: data().parts[part], x: `${x}%`, width: `${width}%`, height: 14}),
  ));
  // As plugin_utils/report/strips.py draws them.
  const strip = (text) => {
    const paths = {kept: "", active: "", removable: ""};
    for (const {0: run, index} of text.matchAll(/(\d)\1*/g)) {
      const level = run[0] % 4;
      const removable = run[0] >= 4;
      if (level || !removable) paths[level ? "active" : "kept"] += `M${index} 12v-${[2, 5, 8, 12][level]}h${run.length}V12z`;
      if (removable) paths.removable += `M${index} 0v6h${run.length}V0z`;
    }
    const shape = {class: "strip", "aria-hidden": "true", viewBox: `0 0 ${text.length} 12`, preserveAspectRatio: "none"};
    return drawing("svg", shape, ...Object.entries(paths).map(([name, d]) => drawing("path", {class: name, d})));
  };
  const value = (number, text) => number === null ? "–" : element("data", {value: number}, text(number));
  const plain = (number) => number.toLocaleString("en");

  // What a row's name opens: all images of a host, or all storages of an image.
  const listed = (cellsOf, first, second) => cellsOf
    .filter(({at}) => cells().has[at])
    .sort((a, b) => first[b.at] - first[a.at] || second[b.at] - second[a.at])
    .map(({name, at}) => element("li", {}, `${name} `, element("small", {}, cellText(at))));
  const imagesOn = (storage) => {
    const {size, instances, at} = cells();
    return listed(data().images.map(([name], image) => ({name, at: at(storage, image)})), size, instances);
  };
  const storagesWith = (image) => {
    const {size, instances, at} = cells();
    return listed(data().storages.map(([name], storage) => ({name, at: at(storage, image)})), instances, size);
  };
  const nameCell = (name, note, isOpenable) => [
    isOpenable ? element("details", {}, element("summary", {}, name), element("ul", {})) : name,
    ...(note ? [element("small", {}, note)] : []),
  ];

  const tables = [{
    name: "hosts",
    word: "host",
    rows: () => data().hosts,
    texts: ([name]) => [name],
    keys: ([name, state, storage]) => {
      const [, , used, ...sizes] = data().storages[storage] ?? [];
      return [name, state, used ?? null, ...sizes.slice(0, 6)];
    },
    cells: ([name, state, storage]) => {
      const [, note, used, ...sizes] = data().storages[storage] ?? [];
      const [kind, label] = data().states[state];
      return [
        nameCell(name, note, Boolean(data().cells[storage]?.length)),
        [element("span", {class: `state ${kind}`}, label)],
        storage < 0 ? ["not known"] : [bar(sizes[6]), element("span", {}, used === null ? "not known" : `${used.toFixed(0)} % full`)],
        ...[0, 1, 2, 3, 4, 5].map((index) => [value(sizes[index] ?? null, sizeText)]),
      ];
    },
    open: ([, , storage]) => imagesOn(storage),
  }, {
    name: "images",
    word: "image",
    rows: () => data().images,
    texts: ([name, note]) => [name, note],
    keys: ([name, , instances, hosts, size, freed, age]) => [name, null, size, instances, hosts, freed, age],
    cells: ([name, note, instances, hosts, size, freed, , age, text, parts]) => [
      nameCell(name, note, true),
      [strip(text)],
      [bar(parts), value(size, sizeText)],
      [value(instances, plain)],
      [value(hosts, plain)],
      [value(freed, sizeText)],
      [age || "–"],
    ],
    open: (row) => storagesWith(data().images.indexOf(row)),
  }];

  // The page's own rows are the first ones; the script's are drawn anew each time.
  const drawnFrom = new WeakMap();
  const rowOf = (element, rows) => drawnFrom.get(element) ?? rows()[element.sectionRowIndex];

  const enliven = ({name, word, rows, texts, keys, cells: cellsOf, open}) => {
    const table = document.querySelector(`.${name}`);
    if (!table) return;
    const body = table.tBodies[0];
    const rest = table.nextElementSibling;
    const search = table.previousElementSibling.querySelector("input");
    const headers = [...table.tHead.rows[0].cells];
    const model = body.rows[0];
    let sorting = null;
    let shown = Math.min(FIRST[name], body.rows.length);

    const draw = (row) => {
      const made = model.cloneNode(false);
      made.append(...cellsOf(row).map((content, column) => {
        const cell = model.cells[column].cloneNode(false);
        cell.append(...content);
        return cell;
      }));
      drawnFrom.set(made, row);
      return made;
    };
    const found = () => {
      const wanted = search.value.trim().toLowerCase();
      const list = rows().filter((row) => texts(row).some((text) => text.toLowerCase().includes(wanted)));
      if (!sorting) return list;
      // Unknown comes last, whichever way it is sorted.
      const {column, sign} = sorting;
      return list.map((row) => ({row, key: keys(row)[column] ?? null})).sort((a, b) => (
        a.key === null || b.key === null ? (a.key === null) - (b.key === null)
          : sign * (column === 0 ? compareText(a.key, b.key) : a.key - b.key)
      )).map(({row}) => row);
    };
    const show = () => {
      const list = found();
      body.replaceChildren(...list.slice(0, shown).map(draw));
      offer(list.length);
      return list.length;
    };
    const offer = (count) => {
      rest.textContent = count > shown ? `${shown} of ${countText(count, word)}. ` : count ? "" : `No ${word} has this in its name.`;
      if (count > shown) {
        const more = element("button", {type: "button"}, `Show ${Math.min(PAGE, count - shown)} more`);
        more.addEventListener("click", () => {
          const next = shown;
          shown += PAGE;
          show();
          body.rows[next].querySelector("summary")?.focus();
        });
        rest.append(more);
      }
    };

    headers.forEach((header, column) => {
      if (header.classList.contains("strips")) return;
      const button = element("button", {type: "button"}, ...header.childNodes);
      button.addEventListener("click", () => {
        const before = header.getAttribute("aria-sort");
        const descending = before ? before === "ascending" : column > 1;
        sorting = {column, sign: descending ? -1 : 1};
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        show();
        status.textContent = `Sorted by ${header.textContent}, ${descending ? "descending" : "ascending"}`;
      });
      header.append(button);
    });
    search.closest("p").hidden = false;
    search.addEventListener("input", () => {
      shown = PAGE;
      status.textContent = `${countText(show(), word)} found`;
    });
    table.addEventListener("toggle", ({target}) => {
      if (!target.open) return;
      const list = target.querySelector("ul");
      const items = open(rowOf(target.closest("tr"), rows));
      list.replaceChildren(...items.slice(0, ITEMS));
      if (items.length <= ITEMS) return;
      const more = element("button", {type: "button"}, `Show ${items.length - ITEMS} more`);
      more.addEventListener("click", () => {
        list.lastChild.remove();
        list.append(...items.slice(ITEMS));
      });
      list.append(element("li", {}, more));
    }, true);
    [...body.rows].slice(shown).forEach((row) => row.remove());
    offer(Number(table.dataset.count));
  };
  tables.forEach(enliven);

  const tip = element("div", {class: "tip", "aria-hidden": "true", hidden: ""});
  document.body.append(tip);
  document.addEventListener("pointermove", ({target, clientX, clientY}) => {
    const picture = target.closest?.(".images tbody .strip");
    tip.hidden = !picture;
    if (!picture) return;
    const {left, width} = picture.getBoundingClientRect();
    const row = rowOf(picture.closest("tr"), () => data().images);
    const columns = row[8].length;
    const storage = Math.max(0, Math.min(columns - 1, Math.floor((clientX - left) / width * columns)));
    const at = cells().at(storage, data().images.indexOf(row));
    tip.textContent = `${data().storages[storage][0]}: ${cells().has[at] ? cellText(at) : "not here"}`;
    tip.style.left = `${Math.min(clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${clientY + 16}px`;
  });
  addEventListener("beforeprint", () => document.querySelectorAll("section > details, .alarm details").forEach((each) => { each.open = true; }));
})();
