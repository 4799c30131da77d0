// Makes a script of a cell: types are removed, `import` and `await` work at the top level, and what
// the top level declares stays for later cells and may be declared again.
"use strict";

const acorn = require("acorn");
const sucrase = require("sucrase");

const OPTIONS = {
  ecmaVersion: "latest",
  sourceType: "module",
  allowAwaitOutsideFunction: true,
  allowReturnOutsideFunction: false,
  allowHashBang: true,
};

/** Parses a cell; in TypeScript, and where JavaScript alone has no reading for it, without types. */
function parse(source, language) {
  const typed = () => {
    const { code } = sucrase.transform(source, {
      transforms: ["typescript"],
      disableESTransforms: true,
      keepUnusedImports: true,
    });
    return { code, tree: acorn.parse(code, OPTIONS) };
  };
  if (language === "typescript") return typed();
  try {
    return { code: source, tree: acorn.parse(source, OPTIONS) };
  } catch (error) {
    try {
      return typed();
    } catch {
      throw error;
    }
  }
}

/** Whether the top level of the tree waits: functions inside have their own. */
function awaits(node) {
  if (Array.isArray(node)) return node.some(awaits);
  if (node === null || typeof node !== "object" || typeof node.type !== "string") return false;
  if (node.type === "AwaitExpression") return true;
  if (node.type === "ForOfStatement" && node.await) return true;
  if (node.type === "ImportDeclaration") return true;
  if (/Function/.test(node.type)) return false;
  return Object.values(node).some(awaits);
}

/** The names that a pattern binds. */
function names(pattern) {
  switch (pattern.type) {
    case "Identifier":
      return [pattern.name];
    case "ObjectPattern":
      return pattern.properties.flatMap((property) => names(property.value ?? property.argument));
    case "ArrayPattern":
      return pattern.elements.flatMap((element) => (element ? names(element) : []));
    case "AssignmentPattern":
      return names(pattern.left);
    case "RestElement":
      return names(pattern.argument);
    default:
      return [];
  }
}

/** An import as a declaration that waits for the module. */
function imported(node) {
  const module = `await import(${JSON.stringify(node.source.value)})`;
  const space = node.specifiers.find((one) => one.type === "ImportNamespaceSpecifier");
  const named = node.specifiers
    .filter((one) => one.type !== "ImportNamespaceSpecifier")
    .map((one) => {
      const name = one.type === "ImportDefaultSpecifier" ? "default" : one.imported.name ?? one.imported.value;
      return { name, local: one.local.name };
    });
  const pattern = `{ ${named.map(({ name, local }) => `${JSON.stringify(name)}: ${local}`).join(", ")} }`;
  if (space && named.length > 0) {
    return {
      code: `${space.local.name} = ${module}; (${pattern} = ${space.local.name});`,
      names: [space.local.name, ...named.map(({ local }) => local)],
    };
  }
  if (space) return { code: `${space.local.name} = ${module};`, names: [space.local.name] };
  if (named.length > 0) return { code: `(${pattern} = ${module});`, names: named.map(({ local }) => local) };
  return { code: `${module};`, names: [] };
}

/** The edits that make a script's top level declare only with `var`. */
function plain(tree) {
  return tree.body.flatMap((node) => {
    if (node.type === "VariableDeclaration" && node.kind !== "var") {
      return [{ start: node.start, end: node.start + node.kind.length, text: "var" }];
    }
    if (node.type === "ClassDeclaration") {
      return [{ start: node.start, end: node.start, text: `var ${node.id.name} = ` }];
    }
    return [];
  });
}

/** The edits and names that make the top level fit into an asynchronous function. */
function waiting(code, tree) {
  const edits = [];
  const hoisted = [];
  const functions = [];
  for (const node of tree.body) {
    if (node.type === "ImportDeclaration") {
      const { code: text, names: bound } = imported(node);
      hoisted.push(...bound);
      edits.push({ start: node.start, end: node.end, text });
    } else if (node.type === "VariableDeclaration") {
      hoisted.push(...node.declarations.flatMap((one) => names(one.id)));
      const text = node.declarations
        .map((one) => {
          const value = one.init ? code.slice(one.init.start, one.init.end) : "undefined";
          return `(${code.slice(one.id.start, one.id.end)} = ${value})`;
        })
        .join(", ");
      edits.push({ start: node.start, end: node.end, text: `void (${text});` });
    } else if (node.type === "ClassDeclaration") {
      hoisted.push(node.id.name);
      edits.push({ start: node.start, end: node.start, text: `${node.id.name} = ` });
      edits.push({ start: node.end, end: node.end, text: ";" });
    } else if (node.type === "FunctionDeclaration") {
      functions.push(node.id.name);
    }
  }
  const last = tree.body.at(-1);
  if (last?.type === "ExpressionStatement") {
    edits.push({ start: last.start, end: last.expression.start, text: "return (" });
    edits.push({ start: last.expression.end, end: last.end, text: ");" });
  }
  return { edits, hoisted, functions };
}

function apply(code, edits) {
  let result = "";
  let at = 0;
  for (const { start, end, text } of edits.sort((a, b) => a.start - b.start)) {
    result += code.slice(at, start) + text;
    at = end;
  }
  return result + code.slice(at);
}

/** A cell as a script; `waits` says that its value is a promise of the cell's value. */
function transform(source, language) {
  const { code, tree } = parse(source, language);
  if (!tree.body.some(awaits)) return { waits: false, script: apply(code, plain(tree)) };
  const { edits, hoisted, functions } = waiting(code, tree);
  const declared = hoisted.length > 0 ? `var ${[...new Set(hoisted)].join(", ")};` : "";
  const kept = functions.map((name) => `globalThis.${name} = ${name};`).join(" ");
  return { waits: true, script: `${declared}(async () => { ${kept}${apply(code, edits)}\n})()` };
}

module.exports = { transform };
