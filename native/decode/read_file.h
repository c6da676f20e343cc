// A whole file in memory, read on the calling thread.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace decode {

// Returns why the file cannot be read, or an empty string. One longer than `limit` bytes is not read.
inline std::string ReadFile(const std::string& path, size_t limit, std::vector<uint8_t>* bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) return std::strerror(errno);
  std::setvbuf(file.get(), nullptr, _IONBF, 0);
  if (std::fseek(file.get(), 0, SEEK_END) != 0) return std::strerror(errno);
  const long size = std::ftell(file.get());
  if (size < 0) return std::strerror(errno);
  if (static_cast<size_t>(size) > limit) return "longer than " + std::to_string(limit) + " bytes";
  std::rewind(file.get());
  bytes->resize(static_cast<size_t>(size));
  errno = 0;
  const size_t read = std::fread(bytes->data(), 1, bytes->size(), file.get());
  if (read != bytes->size()) return errno ? std::strerror(errno) : "it was cut short while being read";
  return "";
}

}  // namespace decode
