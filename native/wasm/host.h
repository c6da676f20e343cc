// What JavaScript offers the engine (src/backends/wasm/instance.ts), and how it gives functions a name for JavaScript.
#pragma once

#include <cstddef>

#define RIFFLE_IMPORT(name) extern "C" __attribute__((import_module("riffle"), import_name(name)))
#define RIFFLE_EXPORT(name) extern "C" __attribute__((export_name(name)))

// Throw in JavaScript.
RIFFLE_IMPORT("refuse") [[noreturn]] void HostRefuse(const char* what, size_t length);
RIFFLE_IMPORT("failForMemory") [[noreturn]] void HostFailForMemory();
