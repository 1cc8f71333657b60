// What the tests of files share: a folder of their own, bytes and bits.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"

namespace motet {

// A test with a folder of its own.
class IoTest : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string file(const std::string& name, std::string_view bytes) const {
    test::write_text(path(name), std::string(bytes));
    return path(name);
  }
  std::set<std::string> names() const { return folder_.names(); }

  test::Folder folder_;
};

inline std::string bytes_of(const std::string& path) { return test::read_text(path); }

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         (a.nbytes() == 0 || std::memcmp(a.contiguous().const_data_ptr(),
                                         b.contiguous().const_data_ptr(), a.nbytes()) == 0);
}

inline Tensor counting(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::arange(c10::multiply_integers(shape), at::kDouble).reshape(shape).to(dtype);
}

/// Bytes that must be refused, and the message without "format: name: ".
struct Broken {
  std::string bytes;
  std::string message;
};

}  // namespace motet
