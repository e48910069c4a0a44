// The scenes of the proof, in order. Each clicks as a person does and then asks the disk and the log, not the screen alone.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { FILES } from "./place.mjs";

const WANTS = "wants to";
const REFUSED = "The notes were not mine to change.";

/** Gives an agent a task by the palette. */
async function give({ bench }, task) {
  await bench.command("Run Agent");
  await bench.answer("What should the agent do?", task);
}

/** The newest run once it has ended, with its events, as the CLI beside the editor shows it. */
async function lastRun({ place }) {
  for (let tries = 0; tries < 60; tries += 1) {
    const [run] = place.codeforge("runs")[0].runs;
    if (run && !["pending", "running"].includes(run.status)) return place.codeforge("show", run.id)[0];
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  throw new Error("the run does not end");
}

const payloads = (shown, type) => shown.events.filter((event) => event.type === type).map((event) => event.payload);

async function starts({ bench, check }) {
  await bench.file("greeting.py");
  check(true, `the extension is ready: ${await bench.status("CodeForge: ready")}`);
  await bench.shot("ready");
}

async function searches({ bench, check }) {
  await bench.command("Search Code");
  await bench.answer("Find code by words", "main polite world");
  await bench.page.locator(".quick-input-list .monaco-list-row", { hasText: "app.py" }).first().waitFor();
  await bench.shot("hits");
  await bench.pick("app.py");
  await bench.page.locator('.tab.active[data-resource-name="app.py"]').waitFor();
  check(/print\(polite/.test(await bench.text()), "a hit of the search opens its file");
}

async function maps({ bench, check }) {
  await bench.command("Show Repo Map");
  await bench.page.locator('.tab.active[data-resource-name="repo map.txt"]').waitFor();
  await bench.shot("map");
  check(await bench.shows(/[\s\S]*files, \d+ definitions, \d+ of 4096 tokens[\s\S]*\[python \d+\][\s\S]*app\.py:/), "the map has its facts, its languages and its files");
}

async function allows({ bench, place, check }) {
  await bench.file("greeting.py");
  await give({ bench }, "say good evening");
  await bench.toast(WANTS).waitFor();
  check((await bench.status("1 question waits")).includes("CodeForge"), "the status bar says that a question waits");
  const buttons = await bench.toast(WANTS).locator(".monaco-button").allTextContents();
  check(buttons.join() === "Allow once,This run,Always,Deny,Show", `the question has its buttons: ${buttons}`);
  const cut = await bench.cutButtons(WANTS);
  check(!cut.length, `no button is cut: ${cut.join() || "none"}`);
  const message = await bench.toast(WANTS).locator(".notification-list-item-message").textContent();
  check(/\[rule 4 \(Edit: ask\), editor-interactive\.yaml:\d+\]/.test(message), `it says which rule asks, and where it stands: ${message}`);
  await bench.shot("question");
  await bench.click(WANTS, "Show");
  await bench.page.locator('.tab[data-resource-name="change.diff"]').waitFor();
  await bench.toast(WANTS).getByRole("button", { name: "Show", exact: true }).waitFor({ state: "detached" });
  await bench.shot("change");
  check(place.read("greeting.py") === FILES["greeting.py"], "nothing is written while the question waits");
  await bench.click(WANTS, "Allow once");
  await bench.toast("grep -c").waitFor();
  await bench.shot("command");
  check(place.read("greeting.py").includes("Good evening, {name}"), "the edit is on disk: the clean document was saved again");
  check(!(await bench.isDirty("greeting.py")), "its tab has no unsaved changes");
  await bench.click("grep -c", "Allow once");
  await bench.toast("The greeting is an evening one now.").waitFor();
  await bench.shot("done");
  await bench.dismiss("The greeting is an evening one now.");
  await bench.file("greeting.py");
  check(await bench.shows(/Good evening, \{name\}/), "the editor shows the edit");
  check((await bench.page.locator('.tab[data-resource-name="change.diff"]').count()) === 0, "the tab with the change is closed");
  check(place.read("seen.txt") === "1\n", "a command of the run saw the edit");
  const shown = await lastRun({ place });
  const answers = payloads(shown, "approval.answered");
  check(shown.run.status === "completed" && answers.length === 2, `the log has the run: ${shown.run.id} ${shown.run.status}`);
  check(answers.every((a) => a.state === "allowed" && a.answered_by.startsWith("editor:")), `and who allowed it: ${answers[0]?.answered_by}`);
}

async function denies({ bench, place, check }) {
  const before = place.hashes();
  await bench.file("notes.txt");
  await give({ bench }, "change my notes");
  await bench.click(WANTS, "Deny");
  await bench.toast(REFUSED).waitFor();
  await bench.dismiss(REFUSED);
  check(place.hashes() === before && (await bench.shows(/one\ntwo/)), "denied: nothing changed, on disk or on the screen");
  check(!(await bench.isDirty("notes.txt")), "denied: nothing to save");
  const [answer] = payloads(await lastRun({ place }), "approval.answered");
  check(answer?.state === "denied" && answer.answered_by.startsWith("editor:"), `the log says who denied: ${answer?.answered_by}`);
}

async function closes({ bench, place, check }) {
  const before = place.hashes();
  await give({ bench }, "change my notes");
  await bench.dismiss(WANTS);
  await bench.toast(REFUSED).waitFor();
  await bench.dismiss(REFUSED);
  check(place.hashes() === before && (await bench.shows(/one\ntwo/)), "closed without an answer: nothing changed");
  const [answer] = payloads(await lastRun({ place }), "approval.answered");
  check(answer?.state === "denied", `the log counts it as denied: ${answer?.answered_by}`);
}

async function timesOut({ bench, place, check }) {
  const before = place.hashes();
  place.settings({ ...place.server, "codeforge.settings": { approvals: { timeout_seconds: 4 } } });
  for (let tries = 0; tries < 5 && !(await asksBriefly({ bench, place })); tries += 1) {
    await bench.click(WANTS, "Deny"); // the setting has not arrived yet
    await bench.toast(REFUSED).waitFor();
    await bench.dismiss(REFUSED);
  }
  await bench.toast(REFUSED).waitFor();
  await bench.dismiss(REFUSED);
  const [answer] = payloads(await lastRun({ place }), "approval.answered");
  check(answer?.state === "denied" && /time/.test(answer.answered_by), `after 4 s, a setting, nobody's answer is no: ${answer?.answered_by}`);
  await bench.click(WANTS, "Allow once");
  await bench.toast("that question was settled meanwhile").waitFor();
  await bench.dismiss("that question was settled meanwhile");
  check(place.hashes() === before, "an answer that comes too late is told so and changes nothing");
  place.settings({ ...place.server, "codeforge.settings": { approvals: { timeout_seconds: 60 } } });
}

/** Gives a task that asks, and says whether the question waits for seconds only. */
async function asksBriefly({ bench, place }, task = "change my notes") {
  await give({ bench }, task);
  await bench.toast(WANTS).waitFor();
  const [question] = place.codeforge("approvals")[0].approvals;
  return !question || question.expires_at - question.created_at < 10;
}

async function answersHidden({ bench, place, check }) {
  while (await asksBriefly({ bench, place }, "change my notes again")) {
    await bench.click(WANTS, "Deny"); // the settings of the last scene are still in force
    await bench.toast(REFUSED).waitFor();
    await bench.dismiss(REFUSED);
  }
  await bench.palette("Notifications: Toggle Do Not Disturb Mode");
  await bench.page.locator(".statusbar-item", { hasText: "1 question waits" }).first().click();
  await bench.pick("wants to edit notes.txt");
  const dialog = bench.page.locator(".monaco-dialog-box");
  await dialog.waitFor();
  await bench.shot("modal");
  await dialog.getByRole("button", { name: "Allow once", exact: true }).click();
  const { run, events } = await lastRun({ place });
  const [answer] = payloads({ events }, "approval.answered");
  check(run.status === "completed" && answer?.state === "allowed", `a hidden question is answered by the status bar: ${answer?.answered_by}`);
  check(place.read("notes.txt") === "one\nTWO\n", "and carried out");
  await bench.palette("Notifications: Toggle Do Not Disturb Mode");
  await bench.palette("Notifications: Clear All Notifications");
  await bench.file("notes.txt");
  await rewind({ bench }, "change my notes again");
  check(place.read("notes.txt") === FILES["notes.txt"], "and taken back");
}

async function keepsTyped({ bench, place, check }) {
  await bench.file("app.py");
  await bench.page.locator(".editor-group-container.active .view-line").first().click();
  await bench.page.keyboard.press("Control+Home");
  await bench.page.keyboard.type("# typed, not saved\n");
  await give({ bench }, "greet the typed way");
  await bench.click(WANTS, "Allow once");
  await bench.toast("Everybody is greeted.").waitFor();
  await bench.dismiss("Everybody is greeted.");
  check(await bench.shows(/# typed, not saved[\s\S]*"everybody"/), "an unsaved document is edited and keeps what was typed");
  check(place.read("app.py") === FILES["app.py"] && (await bench.isDirty("app.py")), "and it is left to the person to save");
  await rewind({ bench }, "greet the typed way");
  check(await bench.shows(/# typed, not saved[\s\S]*"world"/), "the rewind gives the typed text back, without the edit");
  await bench.palette("File: Revert File");
  check(await bench.shows(/^from greeting/), "the file is as it was");
}

/** Takes a run back to its start, and allows it where the policy asks. */
async function rewind({ bench }, task) {
  await bench.command("Rewind Run");
  await bench.pick(task);
  await bench.pick("To the start of the run");
  const asked = bench.toast("wants to restore");
  const done = bench.toast("Restored");
  await asked.or(done).first().waitFor();
  if (await asked.count()) await bench.click("wants to restore", "Allow once");
  await done.waitFor();
  await bench.shot("rewound");
  await bench.dismiss("Restored");
}

async function rewinds({ bench, place, check }) {
  await bench.file("greeting.py");
  await rewind({ bench }, "say good evening");
  check(await bench.shows(/Hello \{name\}/), "the editor shows the old text");
  const wrong = Object.keys(FILES).filter((name) => place.read(name) !== FILES[name]);
  check(!wrong.length, `every file is byte-exact again${wrong.map((name) => ` except ${name}`)}`);
  check(!existsSync(join(place.workspace, "seen.txt")), "what the run's command made is gone");
  check(!(await bench.isDirty("greeting.py")), "its tab has no unsaved changes");
}

async function allowsTheRun({ bench, place, check }) {
  await give({ bench }, "capitals, please");
  await bench.click(WANTS, "This run");
  await bench.toast("The notes are loud now.").waitFor();
  await bench.dismiss("The notes are loud now.");
  check(place.read("notes.txt") === "ONE\nTWO\n", "allowed for this run: the second edit of the file asks no more");
  const answers = payloads(await lastRun({ place }), "approval.answered");
  check(answers.length === 1 && answers[0].verdict === "allow_run", `the log has the one answer: ${answers.map((a) => a.verdict)}`);
  await bench.file("notes.txt");
  await rewind({ bench }, "capitals, please");
  await give({ bench }, "capitals, please");
  for (const text of ["one", "two"]) {
    await bench.toast(WANTS).waitFor();
    check(place.read("notes.txt").includes(text), "the next run is asked again");
    await bench.click(WANTS, "Deny");
  }
  await bench.toast("The notes are loud now.").waitFor();
  await bench.dismiss("The notes are loud now.");
  const denied = payloads(await lastRun({ place }), "approval.answered");
  check(denied.every((answer) => answer.state === "denied") && place.read("notes.txt") === FILES["notes.txt"], "and denied, each time");
}

async function allowsAlways({ bench, place, check }) {
  await bench.file("app.py");
  for (const [task, clicks] of [["greet for good", true], ["greet for good, once more", false]]) {
    await give({ bench }, task);
    if (clicks) await bench.click(WANTS, "Always");
    await bench.toast("People are greeted.").waitFor();
    await bench.dismiss("People are greeted.");
    const answers = payloads(await lastRun({ place }), "approval.answered").map((answer) => answer.verdict);
    check(answers.join() === (clicks ? "allow_always" : ""), clicks ? "always: answered once" : "and then never asked again");
    check(place.read("app.py").includes('"people"'), "the edit is on disk");
    await rewind({ bench }, task);
  }
  const [{ rules }] = place.codeforge("policy", "always");
  check(rules.length === 1 && JSON.stringify(rules[0]).includes("app.py"), `the rule is as narrow as the question: ${JSON.stringify(rules[0])}`);
  place.codeforge("policy", "forget", "0");
}

async function keepsKeys({ bench, place, check }) {
  const value = "sk-typed-in-the-workbench-1234";
  const ask = async (text) => {
    await bench.command("Set or Forget API Key");
    await bench.pick("MISTRAL_API_KEY");
    await bench.answer("MISTRAL_API_KEY (empty: forget it)", text);
  };
  const source = () => place.codeforge("keys", "list")[0].keys.find((key) => key.name === "MISTRAL_API_KEY")?.source;
  await ask(value);
  await bench.toast("MISTRAL_API_KEY is kept").waitFor();
  await bench.shot("key");
  check(source() === "editor:code-server", `a key that is typed in reaches the server: ${source()}`);
  const [{ pid }] = place.codeforge("daemon", "status");
  process.kill(pid, "SIGKILL");
  await bench.status("CodeForge: ready");
  await place.until(() => source() === "editor:code-server");
  check(source() === "editor:code-server", `it is kept by the editor and handed to the next server: ${source()}`);
  check(!place.written(value), "it is in no log, state or setting of ours");
  await ask("");
  await bench.toast("MISTRAL_API_KEY is forgotten").waitFor();
  check(source() === undefined, "and forgotten");
}

async function cancels({ bench, place, check }) {
  await give({ bench }, "something slow");
  const work = bench.page.locator(".notifications-toasts .notification-list-item", { hasText: "Cancel" }).first();
  await work.waitFor();
  await bench.shot("work");
  await work.getByRole("button", { name: "Cancel", exact: true }).click();
  await bench.toast("The run is cancelled").waitFor();
  await bench.dismiss("The run is cancelled");
  check((await lastRun({ place })).run.status === "cancelled", "Cancel in the notification cancels the run");
}

async function survives({ bench, place, check }) {
  const [{ pid }] = place.codeforge("daemon", "status");
  process.kill(pid, "SIGKILL");
  await bench.command("Search Code");
  await bench.answer("Find code by words", "polite greeting");
  await bench.pick("greeting.py");
  await bench.page.locator('.tab.active[data-resource-name="greeting.py"]').waitFor();
  const [now] = place.codeforge("daemon", "status");
  check(now.running && now.pid !== pid, "after a kill of the daemon the next command works, with a new one");
  await bench.status("CodeForge: ready");
}

async function saysWhy({ bench, place, check }) {
  place.settings({ "codeforge.server.path": "/nowhere/codeforge-ls" });
  await bench.toast("/nowhere/codeforge-ls was not found").waitFor();
  await bench.status("CodeForge: not running");
  await bench.shot("missing");
  await bench.dismiss("was not found");
  place.settings({ ...place.server, "codeforge.server.arguments": ["--nonsense"] });
  await bench.toast("Unknown option --nonsense").waitFor();
  await bench.dismiss("Unknown option --nonsense");
  check(true, "a server that is missing or refuses is explained in its words");
  place.settings(place.server);
  check(true, `the right setting is enough: ${await bench.status("CodeForge: ready")}`);
}

async function restricted({ bench, place, check }) {
  await bench.status("CodeForge: restricted");
  await bench.command("Search Code");
  await bench.toast("Trust this workspace first").waitFor();
  await bench.shot("restricted");
  await bench.dismiss("Trust this workspace first");
  check(!place.daemons().length, "in a restricted workspace nothing is started, and a command says why");
  await bench.palette("Workspaces: Manage Workspace Trust");
  await bench.page.getByRole("button", { name: "Trust", exact: true }).first().click();
  check(true, `once it is trusted the server starts: ${await bench.status("CodeForge: ready")}`);
}

async function twoFolders({ bench, place, check }) {
  await bench.file("second.py");
  await bench.status("CodeForge: ready");
  await bench.command("Search Code");
  await bench.answer("Find code by words", "something of the second folder");
  await bench.pick("second.py");
  await bench.shot("second");
  check(place.daemons().length === 2, "each folder has a server of its own");
  await bench.file("greeting.py");
  await bench.command("Show Run");
  await bench.page.locator(".quick-input-list .monaco-list-row").first().waitFor();
  await bench.page.keyboard.type("good evening"); // the oldest: further down than the list draws
  await bench.pick("say good evening");
  await bench.page.locator('.tab.active[data-resource-name^="run-"]').waitFor();
  check(await bench.shows(/say good evening/), "the next window sees the runs of the one before");
  check(!(await bench.isDirty("run-")), "a run's log is nothing to save");
  await bench.shot("run");
}

export const WINDOW_OF_FOLDERS = { restricted, twoFolders };
export const SCENES = { starts, searches, maps, allows, denies, closes, timesOut, answersHidden, keepsTyped, rewinds, allowsTheRun, allowsAlways, keepsKeys, cancels, survives, saysWhy };
