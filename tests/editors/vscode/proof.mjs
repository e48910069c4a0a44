// The VS Code proof: a real workbench, the extension from its .vsix, the real server. Ends with `N passed, N failed`.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { makePlace } from "./place.mjs";
import { SCENES, WINDOW_OF_FOLDERS } from "./scenes.mjs";
import { Workbench } from "./workbench.mjs";

const only = process.argv[2]; // folder or folders; both without
const { WORKBENCH, VSIX, PROJECT, OUT } = process.env;
const begun = Date.now();
let passed = 0;
let failed = 0;

function check(holds, what) {
  if (holds) passed += 1;
  else failed += 1;
  console.log(((Date.now() - begun) / 1000).toFixed(1).padStart(6), holds ? "ok  " : "FAIL", what);
}

async function play(scene, stage) {
  try {
    await scene(stage);
  } catch (error) {
    check(false, `${scene.name}: ${error.message.split("\n").slice(0, 4).join(" | ")}`);
    await stage.bench.shot(`failure-${scene.name}`);
    await stage.bench.tidy();
  }
}

async function main() {
  mkdirSync(OUT, { recursive: true });
  const place = await makePlace(PROJECT);
  try {
    await window(place, SCENES, { name: "folder", query: { folder: place.workspace } });
    await place.stop();
    const query = { workspace: join(place.home, "both.code-workspace") };
    await window(place, WINDOW_OF_FOLDERS, { name: "folders", query, trusting: false });
  } finally {
    const left = await place.end();
    check(!left.length, `no process is left${left.map((command) => `: ${command}`)}`);
  }
}

async function window(place, scenes, options) {
  if (only && only !== options.name) return;
  const bench = await Workbench.start({ directory: WORKBENCH, place, vsix: VSIX, out: OUT, ...options });
  try {
    for (const scene of Object.values(scenes)) await play(scene, { bench, place, check });
    check(bench.outside.size === 0, `requests of the page to other hosts: ${[...bench.outside].join(" ") || "none"}`);
  } finally {
    await bench.end();
  }
}

await main().catch((error) => check(false, error.stack));
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
