/** Where the network looked, as the report's page shows it under a picture. */

import { EXPLAINED_LAYERS } from "../inference/explain.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { className } from "./content.js";
import { HEAT_COLOURS, HEAT_OPACITY } from "./heat-picture.js";
import type { LayerLook, PictureLook } from "./looks.js";
import { html } from "./markup.js";

/** What the small maps show, and what they do not. */
export function lookWords(): string {
  const scale = HEAT_COLOURS.map((colour) => `rgb(${colour.join(" ")})`).join(",");
  return `<h2>Where the network looks</h2>
<p class="soft">Under the pictures below: gray, the picture as it is cut for the network; in colour, where in it what speaks for a class lies (class activation of the last
layer, Zhou et al. 2016). Each map goes from nothing <span class="scale" style="background:linear-gradient(to right,${scale})"></span> to the most of that one map, so brightness
cannot be compared between maps. “Finer layers” has Grad-CAM (Selvaraju et al. 2017) of the layers before: finer, and less of the class.</p>
<p class="soft">It shows the places that a score was made of. It does not show what was recognised there, whether that is right, or what the network would say without it; and every
place has seen more of the picture than it covers.</p>`;
}

/** The maps of a picture: the last layer's for each class, the others' behind a fold. */
export function lookFigures(sample: number, { seen, classes }: PictureLook, model: ModelDescription): string {
  const id = `seen-${sample}`;
  const base = `<svg class="base" width="0" height="0" aria-hidden="true"><defs><image id="${id}" href="${seen}" width="100" height="100" /></defs></svg>`;
  const row = (layer: string): string =>
    classes
      .map(({ output, maps }) => {
        const map = maps.find((each) => each.layer === layer) as LayerLook;
        return mapFigure(id, map, className(model, output));
      })
      .join("");
  const [last, ...finer] = [...EXPLAINED_LAYERS].reverse();
  const names = classes.map(({ output }) => `<span>${html(className(model, output))}</span>`).join("");
  const folds = finer.map((layer) => `<div class="row">${row(layer)}</div><small>${layer}</small>`);
  return `${base}<div class="looks"><div class="row names">${names}</div><div class="row">${row(last as string)}</div><details><summary>Finer layers</summary>${folds.join("")}</details></div>`;
}

function mapFigure(id: string, { layer, places, uri }: LayerLook, name: string): string {
  const says = `what speaks for ${name}, ${layer}, ${places} x ${places} places`;
  const heat =
    uri === null
      ? `<text x="50" y="46" text-anchor="middle">nothing</text><text x="50" y="62" text-anchor="middle">speaks for it</text>`
      : `<image href="${uri}" width="100" height="100" opacity="${HEAT_OPACITY}" />`;
  return `<svg class="look${uri === null ? " cold" : ""}" viewBox="0 0 100 100" role="img" aria-label="${html(says)}"><title>${html(says)}</title><use href="#${id}" />${heat}</svg>`;
}
