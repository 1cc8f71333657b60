// Images as data to train on: bytes become numbers in [-1, 1] when they are drawn, so that a set
// takes a byte a pixel in memory.
#include <torch/types.h>

#include <algorithm>
#include <string>

#include "data_detail.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/train.hpp"

namespace motet {
namespace {

using detail::quoted_text;
using detail::shape_text;

constexpr double kBlack = -1.0;
constexpr int64_t kMaxSide = 4096;

class Images {
 public:
  Images(Tensor images, const ImageOptions& options, std::string name)
      : images_(std::move(images)), options_(options), name_(std::move(name)) {}

  int64_t num_images() const { return images_.size(0); }
  const std::string& name() const { return name_; }

  std::vector<int64_t> event_shape() const {
    const bool is_padded = options_.pad > 0;
    return {images_.size(1), is_padded ? options_.pad : images_.size(2),
            is_padded ? options_.pad : images_.size(3)};
  }

  int64_t event_dim() const {
    const std::vector<int64_t> shape = event_shape();
    return shape[0] * shape[1] * shape[2];
  }

  /// Which image each row is, from its own uniform number.
  Tensor draw_index(int64_t num_samples, Rng& rng) const {
    const Tensor u = rng.uniform(num_samples, at::empty({0}, at::kDouble));
    return (u * num_images()).floor().to(at::kLong);
  }

  Tensor points(const Tensor& index, Rng& rng) const {
    Tensor x = images_.index_select(0, index);
    x = x.scalar_type() == at::kByte ? x.to(at::kDouble) / 127.5 - 1.0 : x.to(at::kDouble);
    if (options_.flip) {
      const Tensor is_flipped = rng.uniform(index.size(0), x).lt(0.5).view({-1, 1, 1, 1});
      x = at::where(is_flipped, x.flip({3}), x);
    }
    const int64_t rows = event_shape()[1] - x.size(2);
    const int64_t columns = event_shape()[2] - x.size(3);
    return at::constant_pad_nd(x, {columns / 2, columns - columns / 2, rows / 2, rows - rows / 2},
                               kBlack);
  }

 private:
  Tensor images_;  // (N, C, H, W) uint8, or float
  ImageOptions options_;
  std::string name_;
};

class PlainImages final : public DataSet {
 public:
  explicit PlainImages(Images images) : images_(std::move(images)) {}
  Tensor sample(int64_t num_samples, Rng& rng) const override {
    const Tensor index = images_.draw_index(num_samples, rng);
    return images_.points(index, rng);
  }
  int64_t event_dim() const override { return images_.event_dim(); }
  std::vector<int64_t> event_shape() const override { return images_.event_shape(); }
  std::string describe() const override { return images_.name(); }

 private:
  Images images_;
};

class LabelledImages final : public LabelledData {
 public:
  LabelledImages(Images images, Tensor labels)
      : images_(std::move(images)), labels_(std::move(labels)) {}
  Draw sample_labelled(int64_t num_samples, Rng& rng) const override {
    const Tensor index = images_.draw_index(num_samples, rng);
    return {images_.points(index, rng), labels_.index_select(0, index)};
  }
  int64_t num_classes() const override { return labels_.max().item<int64_t>() + 1; }
  int64_t event_dim() const override { return images_.event_dim(); }
  std::vector<int64_t> event_shape() const override { return images_.event_shape(); }
  std::string describe() const override { return images_.name(); }

 private:
  Images images_;
  Tensor labels_;  // (N) int64
};

// (N, C, H, W), a channel where there is none; DataError for what is no list of images.
Tensor checked_images(const Tensor& images, const std::string& where) {
  const bool has_sizes = images.defined() && (images.dim() == 3 || images.dim() == 4) &&
                         images.numel() > 0 && images.size(-1) <= kMaxSide &&
                         images.size(-2) <= kMaxSide;
  if (!has_sizes) {
    throw DataError(where + " has shape " +
                    (images.defined() ? shape_text(images.sizes()) : "(undefined)") +
                    ", must be (N, H, W) or (N, C, H, W) with sides of at most 4096");
  }
  const bool is_float = images.scalar_type() == at::kFloat || images.scalar_type() == at::kDouble;
  if (images.scalar_type() != at::kByte && !is_float) {
    throw DataError(where + " has dtype " + detail::dtype_text(images.scalar_type()) +
                    ", must be uint8 (0 to 255), or float32 or float64 in [-1, 1]");
  }
  const Tensor copy = images.detach().to(at::kCPU).contiguous();
  if (is_float && copy.abs().le(1.0).all().logical_not().item<bool>()) {
    throw DataError(where + " has numbers outside of [-1, 1]; scale them, or give uint8");
  }
  return copy.dim() == 3 ? copy.unsqueeze(1) : copy;
}

}  // namespace

DataSetPtr image_data(const Tensor& images, const Tensor& labels, const ImageOptions& options,
                      std::string name) {
  const std::string where = "data: " + quoted_text(name);
  const Tensor checked = checked_images(images, where);
  const int64_t side = std::max(checked.size(2), checked.size(3));
  if (options.pad != 0 && (options.pad < side || options.pad > kMaxSide)) {
    throw ConfigError(where + ": pad = " + std::to_string(options.pad) +
                      ", must be 0 (none) or from the images' side " + std::to_string(side) +
                      " to 4096");
  }
  Images all(checked, options, name);
  if (!labels.defined()) {
    return std::make_shared<PlainImages>(std::move(all));
  }
  const Tensor classes = detail::checked_labels(labels, checked.size(0), name);
  return std::make_shared<LabelledImages>(std::move(all), classes);
}

}  // namespace motet
