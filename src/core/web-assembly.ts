/**
 * WebAssembly as far as Riffle uses it, typed: TypeScript has it in the library of pages only.
 */

/** A compiled module. */
export interface WasmModule {
  readonly [Symbol.toStringTag]: "WebAssembly.Module";
}

export interface WasmMemory {
  /** Anew whenever it has grown. */
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
}

export interface WasmGlobal {
  value: number;
}

interface WebAssemblyNamespace {
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Memory: new (limits: {
    readonly initial: number;
    readonly maximum: number;
    readonly shared: boolean;
  }) => WasmMemory;
  readonly Instance: new (module: WasmModule, imports: object) => { readonly exports: object };
  compile(bytes: Uint8Array): Promise<WasmModule>;
}

export const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyNamespace };
