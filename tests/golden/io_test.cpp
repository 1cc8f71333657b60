// Files of PyPI safetensors and numpy (tools/golden_io.py): read to the same numbers, written to
// the same bytes. tests/golden/check_io.py looks from the other side.
#include <cstdlib>

#include "unit/io_fixture.hpp"

namespace motet {
namespace {

using IoGoldenTest = IoTest;

std::string golden(const std::string& name) {
  return std::string(MOTET_SOURCE_DIR "/tests/golden/io/") + name;
}

TensorFile pypi_file() {
  TensorFile file;
  file.metadata = {{"made by", "PyPI"}};
  file.tensors = {
      {"f64", counting({2}, at::kDouble)},
      {"f32", counting({2, 3}, at::kFloat)},
      {"f16", counting({3}, at::kHalf)},
      {"bf16", counting({5}, at::kBFloat16)},
      {"i64", counting({1, 2}, at::kLong)},
      {"i32", counting({3}, at::kInt)},
      {"i16", counting({3}, at::kShort)},
      {"i8", counting({3}, at::kChar)},
      {"u8", counting({5}, at::kByte)},
      {"bool", at::tensor({0, 1, 1}, at::kInt).to(at::kBool)},
      {"scalar", at::scalar_tensor(0.0, at::kFloat)},
      {"none", at::zeros({0, 2})},
  };
  return file;
}

TEST_F(IoGoldenTest, ReadsPypiSafetensors) {
  const TensorFile expected = pypi_file();
  const TensorFile file = read_safetensors(golden("pypi.safetensors"));
  EXPECT_EQ(file.metadata, expected.metadata);
  ASSERT_EQ(file.tensors.size(), expected.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) {
    EXPECT_TRUE(same_bits(file.tensors.at(name), tensor)) << name;
  }
}

TEST_F(IoGoldenTest, WritesTheBytesOfPypiSafetensors) {
  write_safetensors(path("a"), pypi_file());
  EXPECT_EQ(bytes_of(path("a")), bytes_of(golden("pypi.safetensors")));
}

TEST_F(IoGoldenTest, ReadsNumpyArraysOfEveryVersion) {
  const Tensor x = counting({3, 2}, at::kDouble);
  EXPECT_TRUE(same_bits(read_npy(golden("float32.npy")), x.to(at::kFloat)));
  EXPECT_TRUE(same_bits(read_npy(golden("float64.npy")), x.flatten()));
  EXPECT_TRUE(same_bits(read_npy(golden("version2.npy")), x));
  EXPECT_TRUE(same_bits(read_npy(golden("version3.npy")), x));
}

TEST_F(IoGoldenTest, WritesTheBytesOfNumpy) {
  const Tensor x = counting({3, 2}, at::kDouble);
  write_npy(path("float32"), x.to(at::kFloat));
  EXPECT_EQ(bytes_of(path("float32")), bytes_of(golden("float32.npy")));
  write_npy(path("float64"), x.flatten());
  EXPECT_EQ(bytes_of(path("float64")), bytes_of(golden("float64.npy")));
}

TEST_F(IoGoldenTest, RefusesNumpyFilesItDoesNotRead) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"fortran.npy",
       "array in Fortran order, must be in C order; save it with numpy.save(f, "
       "numpy.ascontiguousarray(a))"},
      {"big_endian.npy",
       "dtype \">f8\" is big endian; save it with numpy.save(f, a.astype('<f4'))"},
      {"int64.npy",
       "dtype \"<i8\", must be \"<f4\" or \"<f8\"; save it with numpy.save(f, a.astype('<f4'))"},
      {"structured.npy", "a structured array, must be float32 or float64; save one field"},
      {"object.npy",
       "dtype \"|O\" is an array of pickled objects, which motet never loads; save numbers with "
       "numpy.save(f, a.astype('<f4'))"},
      {"scalar.npy", "shape () has 0 dimensions, must have 1 to 8"},
      {"archive.npz",
       "is a zip archive (as torch.save and numpy.savez make), which motet never loads; save one "
       "array of numbers with numpy.save"},
  };
  for (const auto& [name, message] : cases) {
    EXPECT_THROW_MSG(read_npy(golden(name)), DataError, "npy: " + golden(name) + ": " + message);
  }
}

// Into the folder $MOTET_CHECK_IO when check_io.py asks for them.
TEST_F(IoGoldenTest, WritesFilesForOtherReaders) {
  const char* asked = std::getenv("MOTET_CHECK_IO");
  const std::string folder = asked != nullptr ? asked : folder_.path();
  write_safetensors(folder + "/tensors.safetensors", {{{"a", counting({2, 3}, at::kFloat)},
                                                       {"b", counting({3}, at::kDouble)},
                                                       {"c", counting({5}, at::kLong)},
                                                       {"d", counting({2}, at::kBool)},
                                                       {"e", at::zeros({0, 2})},
                                                       {"f", counting({3}, at::kByte)}},
                                                      {{"key", "caf\xc3\xa9"}, {"other", "\"\n"}}});
  write_npy(folder + "/float64.npy", counting({2, 3, 4}, at::kDouble));
  const Tensor rows = counting({5, 2}, at::kFloat);
  NpyRowWriter writer(folder + "/rows.npy", 5, {2});
  writer.write(2, rows.slice(0, 2, 5));
  writer.write(0, rows.slice(0, 0, 2));
  writer.finish();
  EXPECT_TRUE(same_bits(read_npy(folder + "/rows.npy"), rows));
}

}  // namespace
}  // namespace motet
