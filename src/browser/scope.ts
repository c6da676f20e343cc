/** What of a page and of a worker is used here, typed: Node's types, which all else is written against, do not have it. */

/** A dedicated worker as its maker sees it. */
export interface PageWorker {
  postMessage(message: unknown, transfer?: readonly object[]): void;
  terminate(): void;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onerror: ((event: { readonly message?: string; preventDefault(): void }) => void) | null;
}

/** A worker as it sees itself. */
interface WorkerScope {
  postMessage(message: unknown, transfer?: readonly object[]): void;
  onmessage: ((event: { readonly data: never }) => void) | null;
  close(): void;
}

/** A handle of a folder or file of the origin's own (File System Standard, "bucket file system"). */
export interface Folder {
  readonly kind: "directory";
  readonly name: string;
  getDirectoryHandle(name: string, options?: { readonly create?: boolean }): Promise<Folder>;
  getFileHandle(name: string, options?: { readonly create?: boolean }): Promise<StoredFile>;
  removeEntry(name: string, options?: { readonly recursive?: boolean }): Promise<void>;
  values(): AsyncIterable<Folder | StoredFile>;
}
export interface StoredFile {
  readonly kind: "file";
  readonly name: string;
  getFile(): Promise<Blob>;
  createWritable(): Promise<{
    write(bytes: Uint8Array | string): Promise<void>;
    close(): Promise<void>;
    abort(): Promise<void>;
  }>;
  createSyncAccessHandle(): Promise<{
    write(bytes: Uint8Array, options: { readonly at: number }): number;
    truncate(size: number): void;
    flush(): void;
    close(): void;
  }>;
}

interface Browser {
  readonly navigator: {
    readonly hardwareConcurrency?: number;
    readonly storage?: {
      getDirectory?(): Promise<Folder>;
      estimate?(): Promise<{ readonly quota?: number; readonly usage?: number }>;
      persist?(): Promise<boolean>;
    };
    readonly locks?: {
      request<T>(
        name: string,
        options: { readonly ifAvailable: boolean },
        held: (lock: object | null) => Promise<T>,
      ): Promise<T>;
    };
  };
  readonly crossOriginIsolated?: boolean;
}

/** The page's or the worker's own. */
export const browser = globalThis as unknown as Browser;
export const workerScope = globalThis as unknown as WorkerScope;

/** What the scope may have or not, by name. */
export function hasGlobal(name: string): boolean {
  return name in globalThis;
}
