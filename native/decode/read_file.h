// A whole file in memory, read on the calling thread.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace decode {

// What became of a file or picture: done, an error of the system, or what is wrong with it in words. The caller must
// tell the two apart, since a disk that fails says nothing of the picture on it.
struct Outcome {
  int error = 0;  // errno
  std::string reason;
  bool done() const { return error == 0 && reason.empty(); }
};

// One longer than `limit` bytes is not read.
inline Outcome ReadFile(const std::string& path, size_t limit, std::vector<uint8_t>* bytes) {
  // A pipe would be waited for.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return {errno, ""};
  const struct Closing {
    int file;
    ~Closing() { close(file); }
  } closing{file};
  struct stat found;
  if (fstat(file, &found) != 0) return {errno, ""};
  if (!S_ISREG(found.st_mode)) return {0, "not a regular file"};
  const size_t size = static_cast<size_t>(found.st_size);
  if (size > limit) return {0, "longer than " + std::to_string(limit) + " bytes"};
  bytes->resize(size);
  for (size_t done = 0; done < size;) {
    const ssize_t got = read(file, bytes->data() + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return {errno, ""};
    if (got == 0) return {0, "it was cut short while being read"};
    done += static_cast<size_t>(got);
  }
  return {};
}

}  // namespace decode
