// Fails when the package holds anything but what a user needs, or is larger than 2 MB.
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";

const expected = ["[Content_Types].xml", "extension.vsixmanifest", "extension/LICENSE.txt", "extension/dist/extension.js", "extension/package.json", "extension/readme.md", "extension/schemas/policy.json"];
const listing = execFileSync("python3", ["-c", "import sys, zipfile; print('\\n'.join(sorted(zipfile.ZipFile(sys.argv[1]).namelist())))", "codeforge.vsix"]);
const found = listing.toString().trim().split("\n");
const odd = found.filter((name) => !expected.includes(name));
const missing = expected.filter((name) => !found.includes(name));
const size = statSync("codeforge.vsix").size;
if (odd.length || missing.length || size > 2_000_000) {
  console.error({ odd, missing, size });
  process.exit(1);
}
console.log(`codeforge.vsix: ${found.length} files, ${size} bytes`);
