/** Whatever a program can use is documented. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const INDEX = fileURLToPath(new URL("../../src/index.ts", import.meta.url));
const isGenerated = (declaration: ts.Declaration) => declaration.getSourceFile().fileName.includes("/gen/");
const isInside = (declaration: ts.Declaration) =>
  ts.getJSDocTags(declaration).some((tag) => tag.tagName.text === "internal");

test("every public item and each of its members has a comment", () => {
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true };
  const program = ts.createProgram([INDEX], {
    ...options,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(INDEX);
  const exported = source && checker.getSymbolAtLocation(source);
  assert.ok(exported);
  const missing: string[] = [];
  const note = (symbol: ts.Symbol, path: string) => {
    const own = symbol.declarations?.filter((one) => !isGenerated(one) && !isInside(one)) ?? [];
    if (own.length > 0 && symbol.getDocumentationComment(checker).length === 0) missing.push(path);
    return own;
  };
  for (const alias of checker.getExportsOfModule(exported)) {
    const symbol = alias.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(alias) : alias;
    const declarations = note(symbol, symbol.name);
    for (const declaration of declarations) {
      if (!ts.isClassDeclaration(declaration) && !ts.isInterfaceDeclaration(declaration)) continue;
      for (const member of checker.getDeclaredTypeOfSymbol(symbol).getProperties()) {
        const [first] = member.declarations ?? [];
        if (first === undefined || first.getSourceFile().fileName.includes("/node_modules/")) continue;
        const flags = ts.getCombinedModifierFlags(first);
        const isHidden = flags & (ts.ModifierFlags.Private | ts.ModifierFlags.Protected);
        if (isHidden || member.name.startsWith("#") || member.name.startsWith("__")) continue;
        note(member, `${symbol.name}.${member.name}`);
      }
    }
  }
  assert.deepEqual(missing, []);
});
