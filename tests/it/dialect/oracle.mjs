// GitHub's own packages, asked many questions at a time: `node oracle.mjs NODE_MODULES expressions|workflows`, with a JSON array on
// standard input and one on standard output.
import { readFileSync } from "node:fs";
import { register } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, mode] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(modules, "@actions", name, "dist", "index.js")));
const questions = JSON.parse(readFileSync(0, "utf8"));

// The packages import JSON in a way for bundlers, which node does not take by itself.
const hook = `import { readFileSync } from "node:fs";
export const load = (url, context, next) => url.endsWith(".json")
  ? { format: "module", shortCircuit: true, source: "export default " + readFileSync(new URL(url), "utf8") }
  : next(url, context);`;
register("data:text/javascript," + encodeURIComponent(hook));

async function expressions() {
  const { Lexer, Parser, Evaluator, data } = await load("expressions");
  const plain = (value) => JSON.parse(JSON.stringify(value, data.replacer));
  const kinds = { [data.Kind.Dictionary]: "Object" };
  return questions.map(({ expression, contexts }) => {
    const values = JSON.parse(JSON.stringify(contexts), data.reviver);
    let kind = "lexing";
    try {
      const tokens = new Lexer(expression).lex().tokens;
      kind = "parsing";
      const tree = new Parser(tokens, Object.keys(contexts), []).parse();
      kind = "evaluation";
      const value = new Evaluator(tree, values).evaluate();
      const special = value.kind === data.Kind.Number && !Number.isFinite(value.value);
      return { kind: kinds[value.kind] ?? data.Kind[value.kind], value: special ? String(value.value) : plain(value) };
    } catch (error) {
      return { err: kind, message: String(error.message) };
    }
  });
}

// `ErrorPolicy.TryConversion`, which the package does not export: go on after errors.
const TRY_CONVERSION = 1;

async function workflows() {
  const { parseWorkflow, convertWorkflowTemplate, NoOperationTraceWriter } = await load("workflow-parser");
  const answers = [];
  for (const content of questions) {
    const { context, value } = parseWorkflow({ name: "ci.yml", content }, new NoOperationTraceWriter());
    if (value) {
      await convertWorkflowTemplate(context, value, undefined, { errorPolicy: TRY_CONVERSION });
    }
    answers.push(context.errors.getErrors().map((error) => error.message));
  }
  return answers;
}

const answers = mode === "expressions" ? await expressions() : await workflows();
process.stdout.write(JSON.stringify(answers));
