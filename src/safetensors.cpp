// The safetensors format: 8 bytes of little-endian header length N, N bytes of JSON that map each
// name to {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__" to strings, then the
// raw little-endian data, which the tensors cover without holes or overlaps.
//
// Sizes are checked against the file before anything of that size is allocated.
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <torch/types.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "safetensors_header.hpp"

namespace motet {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored little endian");

constexpr uint64_t kPrefixSize = 8;

// The header's length, checked against the file and the limit.
uint64_t header_size(std::string_view bytes, const std::string& prefix) {
  if (bytes.size() < kPrefixSize + 2) {
    throw DataError(prefix + "file of " + std::to_string(bytes.size()) +
                    " bytes, must have at least 10; it is truncated or not a safetensors file");
  }
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), kPrefixSize);
  if (size > bytes.size() - kPrefixSize) {
    // Only here can a foreign file be told: a valid length may begin with the same bytes.
    if (const std::string kind = detail::foreign_kind(bytes); !kind.empty()) {
      throw DataError(prefix + "is " + kind +
                      ", which motet never loads, because unpickling runs code from the file; "
                      "convert it with safetensors.torch.save_file");
    }
    throw DataError(prefix + "header length " + std::to_string(size) + " goes beyond the file of " +
                    std::to_string(bytes.size()) +
                    " bytes; it is truncated or not a safetensors file");
  }
  if (size > detail::kMaxHeaderSize) {
    throw DataError(prefix + "header length " + std::to_string(size) + ", must be at most " +
                    std::to_string(detail::kMaxHeaderSize));
  }
  return size;
}

// Each tensor's offsets against its shape and against its neighbours: data_size bytes, all covered
// once.
void check_layout(const detail::Header& header, int64_t data_size, const std::string& prefix) {
  std::vector<const detail::Entry*> in_order;
  for (const detail::Entry& entry : header.entries) {
    const std::string where = prefix + "tensor " + detail::quoted_text(entry.name) + ": ";
    const std::string offsets = "data_offsets [" + std::to_string(entry.offsets[0]) + ", " +
                                std::to_string(entry.offsets[1]) + "]";
    if (entry.offsets[0] > entry.offsets[1]) {
      throw DataError(where + offsets + " end before they begin");
    }
    if (entry.offsets[1] > data_size) {
      throw DataError(where + offsets + " go beyond the data of " + std::to_string(data_size) +
                      " bytes; the file is truncated");
    }
    const auto expected = detail::checked_num_bytes(entry.shape, entry.item_size());
    if (!expected) {
      throw DataError(where + "shape " + detail::shape_text(entry.shape) +
                      " has more bytes than 63 bits can count");
    }
    if (*expected != entry.num_bytes()) {
      throw DataError(where + offsets + " are " + std::to_string(entry.num_bytes()) +
                      " bytes, but shape " + detail::shape_text(entry.shape) + " of " +
                      entry.dtype_name + " needs " + std::to_string(*expected));
    }
    in_order.push_back(&entry);
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const detail::Entry* a, const detail::Entry* b) { return a->offsets < b->offsets; });
  int64_t covered = 0;
  for (const detail::Entry* entry : in_order) {
    if (entry->offsets[0] != covered) {
      throw DataError(prefix + "tensor " + detail::quoted_text(entry->name) + ": data begin at " +
                      std::to_string(entry->offsets[0]) + ", must begin at " +
                      std::to_string(covered) + ", where the tensor before them ends: " +
                      (entry->offsets[0] < covered ? "tensors overlap" : "there is a hole"));
    }
    covered = entry->offsets[1];
  }
  if (covered != data_size) {
    throw DataError(prefix + std::to_string(data_size - covered) +
                    " bytes after the last tensor, must be 0");
  }
}

// A byte other than 0 and 1 in a C++ bool is undefined behaviour.
void check_bools(const detail::Entry& entry, const char* data, const std::string& prefix) {
  if (entry.dtype != c10::ScalarType::Bool) {
    return;
  }
  const char* end = data + entry.num_bytes();
  const char* bad = std::find_if_not(data, end, [](char c) { return c == 0 || c == 1; });
  if (bad != end) {
    throw DataError(prefix + "tensor " + detail::quoted_text(entry.name) +
                    ": a BOOL must be 0 or 1, but element " + std::to_string(bad - data) + " is " +
                    std::to_string(static_cast<int>(static_cast<unsigned char>(*bad))));
  }
}

Tensor copied(const detail::Entry& entry, const char* data) {
  Tensor result = at::empty(entry.shape, entry.dtype);
  if (entry.num_bytes() > 0) {
    std::memcpy(result.mutable_data_ptr(), data, static_cast<size_t>(entry.num_bytes()));
  }
  return result;
}

// Tensors of a whole file in memory. With `owner`, the map that `bytes` is of, they point into it
// and keep it alive; those whose data are not aligned to their items, and all without an owner, are
// copies.
TensorFile parse(std::string_view bytes, const std::string& name,
                 const std::shared_ptr<detail::MappedFile>& owner) {
  const std::string prefix = "safetensors: " + name + ": ";
  const uint64_t size = header_size(bytes, prefix);
  detail::Header header = detail::parse_header(bytes.substr(kPrefixSize, size), prefix);
  const std::string_view data = bytes.substr(kPrefixSize + size);
  check_layout(header, static_cast<int64_t>(data.size()), prefix);
  TensorFile result;
  result.metadata = std::move(header.metadata);
  for (const detail::Entry& entry : header.entries) {
    const char* begin = data.data() + entry.offsets[0];
    check_bools(entry, begin, prefix);
    const bool is_aligned =
        reinterpret_cast<uintptr_t>(begin) % static_cast<uintptr_t>(entry.item_size()) == 0;
    Tensor tensor;
    if (owner && is_aligned && entry.num_bytes() > 0) {
      char* mapped = owner->data() + (begin - bytes.data());
      tensor = at::from_blob(mapped, entry.shape, [owner](void*) {}, at::dtype(entry.dtype));
    } else {
      tensor = copied(entry, begin);
    }
    result.tensors.emplace(entry.name, std::move(tensor));
  }
  return result;
}

// What write_safetensors needs of one tensor.
struct Output {
  std::string name;
  Tensor tensor;  // contiguous, on the CPU
  const detail::DtypeName* dtype = nullptr;
};

void check_text(std::string_view text, const std::string& what, const std::string& prefix) {
  if (const auto bad = detail::find_invalid_utf8(text)) {
    throw DataError(prefix + what + detail::quoted_text(text) + " is not UTF-8 at its byte " +
                    std::to_string(*bad));
  }
}

Output checked_output(const std::string& name, const Tensor& tensor, const std::string& prefix) {
  const std::string where = prefix + "tensor " + detail::quoted_text(name) + ": ";
  check_text(name, "tensor name ", prefix);
  if (name == "__metadata__" || name.size() > detail::kMaxNameSize) {
    throw ShapeError(where + "name must have at most " + std::to_string(detail::kMaxNameSize) +
                     " bytes and not be __metadata__");
  }
  if (!tensor.defined()) {
    throw ShapeError(where + "is undefined");
  }
  if (tensor.dim() > detail::kMaxDims) {
    throw ShapeError(where + "has " + std::to_string(tensor.dim()) +
                     " dimensions, must have at most " + std::to_string(detail::kMaxDims));
  }
  const auto* known = std::find_if(std::begin(detail::kDtypes), std::end(detail::kDtypes),
                                   [&](const auto& d) { return tensor.scalar_type() == d.dtype; });
  if (known == std::end(detail::kDtypes)) {
    throw ShapeError(where + "dtype " + detail::dtype_text(tensor.scalar_type()) +
                     " has no safetensors type");
  }
  return {name, tensor.detach().to(at::kCPU).contiguous(), known};
}

// The header, padded with spaces so that the data begin at a multiple of 8.
std::string header_text(const std::vector<Output>& outputs,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  int64_t offset = 0;
  for (const Output& output : outputs) {
    const int64_t end = offset + static_cast<int64_t>(output.tensor.nbytes());
    header[output.name] = {{"dtype", output.dtype->name},
                           {"shape", output.tensor.sizes().vec()},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kPrefixSize - text.size() % kPrefixSize) % kPrefixSize, ' ');
  return text;
}

}  // namespace

TensorFile read_safetensors(const std::string& path) {
  const auto file = std::make_shared<detail::MappedFile>(path, "safetensors");
  return parse(file->bytes(), path, file);
}

TensorFile parse_safetensors(std::string_view bytes, const std::string& name) {
  return parse(bytes, name, nullptr);
}

void write_safetensors(const std::string& path, const TensorFile& file) {
  const std::string prefix = "safetensors: " + path + ": ";
  detail::check_output_path(path);
  for (const auto& [key, value] : file.metadata) {
    check_text(key, "metadata key ", prefix);
    check_text(value, "metadata value ", prefix);
  }
  std::vector<Output> outputs;
  for (const auto& [name, tensor] : file.tensors) {
    outputs.push_back(checked_output(name, tensor, prefix));
  }
  std::stable_sort(outputs.begin(), outputs.end(),
                   [](const Output& x, const Output& y) { return x.dtype < y.dtype; });
  const std::string text = header_text(outputs, file.metadata);
  if (text.size() > detail::kMaxHeaderSize || outputs.size() > detail::kMaxTensors ||
      file.metadata.size() > detail::kMaxMetadata) {
    throw DataError(prefix + "too much for one file: at most " +
                    std::to_string(detail::kMaxTensors) + " tensors, " +
                    std::to_string(detail::kMaxMetadata) + " metadata entries and " +
                    std::to_string(detail::kMaxHeaderSize) + " bytes of header");
  }
  const uint64_t size = text.size();
  detail::AtomicFile out(path);
  out.append(&size, kPrefixSize);
  out.append(text);
  for (const Output& output : outputs) {
    out.append(output.tensor.const_data_ptr(), output.tensor.nbytes());
  }
  out.commit();
}

}  // namespace motet
