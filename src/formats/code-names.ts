/**
 * Names that stand in a pickle only to run something: a file with one of them was made to do harm to whoever loads it in
 * Python, and is refused as a whole.
 *
 * Nothing is ever called here, so this list protects nobody who reads a file with Riffle. It is a warning: weights that come with
 * a command in them come from no one who should be believed, and the next reader of the file may be Python.
 */

/** Modules whose every name counts; without what stands behind a first dot. */
const modules: ReadonlySet<string> = new Set([
  ..."os posix nt subprocess sys importlib runpy code codeop pty socket shutil ctypes webbrowser".split(" "),
  ..."multiprocessing asyncio pdb bdb timeit cProfile profile pip marshal pickle _pickle cloudpickle dill".split(
    " ",
  ),
  ..."urllib ftplib smtplib commands popen2".split(" "),
]);

const names: ReadonlySet<string> = new Set([
  ...["builtins", "__builtin__"].flatMap((module) =>
    "eval exec execfile compile __import__ open input breakpoint apply globals locals"
      .split(" ")
      .map((name) => `${module}.${name}`),
  ),
  "torch.load",
  "torch.serialization.load",
  "torch.serialization._legacy_load",
  "torch.storage._load_from_bytes",
  "torch._utils._import_dotted_name",
  "torch.jit.load",
  "types.CodeType",
  "types.FunctionType",
  "numpy.load",
  "numpy.testing._private.utils.runstring",
]);

/** Parts of PyTorch that load files or code. */
const packages = ["torch.hub.", "torch.utils.cpp_extension.", "torch._inductor."];

/** `fullName` is "module.name"; a name may have dots of its own. */
export function isCode(fullName: string): boolean {
  const [first = "", ...rest] = fullName.split(".");
  return (
    modules.has(first) ||
    names.has(fullName) ||
    packages.some((start) => fullName.startsWith(start)) ||
    // The insides of Python's objects: Class.__class__, function.__globals__. The other two make a plain object.
    rest.some((part) => /^__\w+__$/.test(part) && !/^__newobj(_ex)?__$/.test(part))
  );
}
