#ifdef RIFFLE_HAVE_LIBJPEG

#include "jpeg.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <jerror.h>
#include <jpeglib.h>

namespace decode {
namespace {

// More only cost time, and are refused before they come here (src/data/pictures/image-info.ts).
constexpr int kMaxScans = 100;

// Chroma is interpolated from one sample on either side, which is two pixels.
constexpr size_t kMargin = 2;

// Rows begin a byte behind a multiple of this, on purpose. Where a row is aligned to its vectors, libjpeg-turbo writes
// past the caches (jdcolext-*.asm, "movnt"), and reading it back from memory takes as long as resizing it.
constexpr size_t kLine = 64;

struct Failure {
  jpeg_error_mgr manager;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  // Behind the jump; no memory is the machine's fault, everything else the picture's.
  [[noreturn]] void Throw() const {
    if (manager.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
    throw BadJpeg(message);
  }
};

[[noreturn]] void Fail(j_common_ptr info) {
  Failure* failure = reinterpret_cast<Failure*>(info->err);
  failure->manager.format_message(info, failure->message);
  longjmp(failure->jump, 1);
}

// Damage that libjpeg papers over with grey is an error; oddities that cost no pixel are not.
void Warn(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_NOT_SEQUENTIAL:  // phones and cameras write the bounds of a scan that a baseline scan does not have
      return;
    default:
      Fail(info);
  }
}

void LimitScans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  Failure* failure = reinterpret_cast<Failure*>(info->err);
  std::snprintf(failure->message, sizeof failure->message, "more than %d scans", kMaxScans);
  longjmp(failure->jump, 1);
}

// As Pillow's convert("RGB"): inks are stored inverted, as Adobe does (PIL.JpegImagePlugin takes all CMYK for that), and
// what is left of a colour is what black leaves of it, in 255ths, rounded (Convert.c, cmyk2rgb). In place.
void InksToRgb(uint8_t* row, size_t width) {
  for (size_t i = 0; i < width; ++i) {
    const unsigned black = row[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      const unsigned ink = (255u - row[4 * i + c]) * black + 128;
      const unsigned taken = ((ink >> 8) + ink) >> 8;
      row[3 * i + c] = static_cast<uint8_t>(black - std::min(black, taken));
    }
  }
}

// libjpeg reports by longjmp; each method that calls it sets the jump in its own frame and turns it into a throw.
class JpegRows : public RowSource {
 public:
  JpegRows(const uint8_t* bytes, size_t length, size_t picture_width, size_t picture_height,
           const JpegRegion& region, size_t kept)
      : region_(region), kept_(kept) {
    info_.err = jpeg_std_error(&failure_.manager);
    failure_.manager.error_exit = Fail;
    failure_.manager.emit_message = Warn;
    progress_.progress_monitor = LimitScans;
    try {
      Start(bytes, length, picture_width, picture_height);
      rows_.resize(kept_ * stride_ + 2 * kLine);
      void* first = rows_.data();
      size_t room = rows_.size();
      first_row_ = static_cast<uint8_t*>(std::align(kLine, kept_ * stride_ + 1, first, room)) + 1;
    } catch (...) {
      jpeg_destroy_decompress(&info_);
      throw;
    }
  }
  ~JpegRows() override { jpeg_destroy_decompress(&info_); }
  JpegRows(const JpegRows&) = delete;
  JpegRows& operator=(const JpegRows&) = delete;

  size_t width() const override { return region_.width; }
  size_t height() const override { return region_.height; }

  const uint8_t* Row(size_t y) override {
    if (next_ <= y) ReadThrough(y);
    return first_row_ + (y % kept_) * stride_ + left_;
  }

 private:
  void Start(const uint8_t* bytes, size_t length, size_t picture_width, size_t picture_height) {
    if (setjmp(failure_.jump)) failure_.Throw();
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_mem_src(&info_, bytes, length);
    jpeg_read_header(&info_, TRUE);
    if (info_.image_width != picture_width || info_.image_height != picture_height)
      throw BadJpeg("two frame headers that disagree");
    // By Huffman's codes every block takes at least a bit, so a small file that claims to be huge is refused before it
    // costs memory.
    if (!info_.arith_code &&
        info_.image_width / 8 * static_cast<uint64_t>(info_.image_height / 8) > 8 * static_cast<uint64_t>(length))
      throw BadJpeg("too short for the size in its header");
    if (info_.num_components == 2 || info_.num_components > 4) throw BadJpeg("not grayscale or colour");
    cmyk_ = info_.num_components == 4;
    info_.out_color_space = cmyk_ ? JCS_CMYK : JCS_RGB;
    info_.dct_method = region_.fast_dct ? JDCT_IFAST : JDCT_ISLOW;
    info_.do_fancy_upsampling = TRUE;
    info_.scale_num = static_cast<unsigned>(region_.eighths);
    info_.scale_denom = 8;
    jpeg_start_decompress(&info_);
    const size_t right = region_.x + region_.width;
    if (right > info_.output_width || region_.y + region_.height > info_.output_height)
      throw BadJpeg("smaller than its header says");

    const size_t first = region_.x - std::min(region_.x, kMargin);
    JDIMENSION x = static_cast<JDIMENSION>(first);
    JDIMENSION width = static_cast<JDIMENSION>(std::min<size_t>(right + kMargin, info_.output_width) - first);
    if (width < info_.output_width) jpeg_crop_scanline(&info_, &x, &width);
    width_ = width;
    left_ = 3 * (region_.x - x);
    stride_ = ((cmyk_ ? 4 : 3) * static_cast<size_t>(width) + kRowPadding + kLine - 1) / kLine * kLine;
    if (region_.y > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(region_.y));
  }

  void ReadThrough(size_t y) {
    if (setjmp(failure_.jump)) failure_.Throw();
    for (; next_ <= y; ++next_) {
      JSAMPROW row = first_row_ + (next_ % kept_) * stride_;
      jpeg_read_scanlines(&info_, &row, 1);
      if (cmyk_) InksToRgb(row, width_);
    }
  }

  jpeg_decompress_struct info_{};
  jpeg_progress_mgr progress_{};
  Failure failure_{};
  JpegRegion region_;
  size_t kept_;
  bool cmyk_ = false;
  size_t width_ = 0;   // of a decoded row
  size_t next_ = 0;    // the region's next row
  size_t left_ = 0;    // bytes before the region in a decoded row
  size_t stride_ = 0;  // bytes
  std::vector<uint8_t> rows_;
  uint8_t* first_row_ = nullptr;  // in rows_
};

}  // namespace

std::unique_ptr<RowSource> OpenJpeg(const uint8_t* bytes, size_t length, size_t picture_width,
                                    size_t picture_height, const JpegRegion& region, size_t kept) {
  return std::make_unique<JpegRows>(bytes, length, picture_width, picture_height, region, kept);
}

}  // namespace decode

#endif  // RIFFLE_HAVE_LIBJPEG
