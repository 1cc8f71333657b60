// .npy: what is written is read back to the same bits, broken files are refused with their own
// sentence, and a file filled in tiles is the file written at once.
#include <limits>

#include "unit/io_fixture.hpp"

namespace motet {
namespace {

using NpyTest = IoTest;
using NpyRowWriterTest = IoTest;

std::string npy(std::string_view header, std::string_view data = "", char major = 1) {
  std::string bytes = std::string("\x93NUMPY") + major + '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  bytes.append(major == 1 ? 0 : 2, '\0');
  return bytes.append(header).append(data);
}

std::string dict(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

std::string floats(size_t count) { return std::string(4 * count, '\0'); }

TEST_F(NpyTest, RoundTripKeepsEveryBit) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const Tensor& x :
         {counting({7}, dtype), counting({2, 3, 4}, dtype), counting({0, 2}, dtype),
          counting({1, 1, 1, 2, 1, 1, 1, 1}, dtype), counting({3, 4}, dtype).t(),
          at::tensor({nan, -0.0, HUGE_VAL}, at::kDouble).to(dtype)}) {
      write_npy(path("a"), x);
      EXPECT_TRUE(same_bits(read_npy(path("a")), x)) << x.sizes();
      EXPECT_TRUE(same_bits(parse_npy(bytes_of(path("a")), "memory"), x)) << x.sizes();
    }
  }
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(NpyTest, ReadsVersionsTwoAndThreeAndAnyOrderOfKeys) {
  const std::string reordered = R"({"shape":(2,1),"fortran_order":False,"descr":"<f4"})";
  for (const char major : {'\1', '\2', '\3'}) {
    EXPECT_TRUE(same_bits(parse_npy(npy(reordered, floats(2), major), "f"), at::zeros({2, 1})));
  }
}

TEST_F(NpyTest, RefusesBrokenFiles) {
  const std::string good = dict("'<f4'", "False", "(2,)");
  const std::vector<Broken> cases = {
      {"", "file of 0 bytes, must have at least 10; it is truncated or not a .npy file"},
      {"\x93NUMPY", "file of 6 bytes, must have at least 10; it is truncated or not a .npy file"},
      {"x1,x2\n0.5,0.25\n",
       "begins with \"x1,x2\\x0a\", not with numpy's magic; it is not a .npy "
       "file"},
      {std::string("PK\x03\x04\0\0\x08\x08\0\0", 10),
       "is a zip archive (as torch.save and numpy.savez make), which motet never loads; save one "
       "array of numbers with numpy.save"},
      {std::string("\x80\x04\x95\0\0\0\0\0\0\0", 10),
       "is a pickle (as old versions of torch.save make), which motet never loads; save one array "
       "of numbers with numpy.save"},
      {npy(good, floats(2), 9), "format version 9.0, must be 1.0, 2.0 or 3.0"},
      {npy(good, floats(2), 2).substr(0, 11), "ends within its header length; it is truncated"},
      {npy(good).substr(0, 40),
       "header length 58 goes beyond the file of 40 bytes; it is "
       "truncated"},
      {std::string("\x93NUMPY\2\0\0\0\1\0", 12), "header length 65536, must be at most 65535"},
      {npy(good, floats(1)),
       "shape (2) of \"<f4\" needs 8 bytes of data, but the file has 4; it "
       "is truncated"},
      {npy(good, floats(3)),
       "shape (2) of \"<f4\" needs 8 bytes of data, but the file has 12; it "
       "has trailing bytes"},
  };
  for (const Broken& broken : cases) {
    EXPECT_THROW_MSG(parse_npy(broken.bytes, "f"), DataError, "npy: f: " + broken.message);
    EXPECT_THROW_MSG(read_npy(file("f", broken.bytes)), DataError,
                     "npy: " + path("f") + ": " + broken.message);
  }
}

TEST_F(NpyTest, RefusesBrokenHeaders) {
  const std::string damaged = "header is not a dictionary as numpy writes it: byte ";
  const std::vector<Broken> cases = {
      {dict("'<f4'", "True", "(2, 1)"),
       "array in Fortran order, must be in C order; save it with numpy.save(f, "
       "numpy.ascontiguousarray(a))"},
      {dict("'|O'", "False", "(2,)"),
       "dtype \"|O\" is an array of pickled objects, which motet never loads; save numbers with "
       "numpy.save(f, a.astype('<f4'))"},
      {dict("'>f8'", "False", "(2,)"),
       "dtype \">f8\" is big endian; save it with numpy.save(f, a.astype('<f4'))"},
      {dict("'<i8'", "False", "(2,)"),
       "dtype \"<i8\", must be \"<f4\" or \"<f8\"; save it with numpy.save(f, a.astype('<f4'))"},
      {dict("[('a', '<f4')]", "False", "(2,)"),
       "a structured array, must be float32 or float64; save one field"},
      {dict("'<f4'", "False", "()"), "shape () has 0 dimensions, must have 1 to 8"},
      {dict("'<f4'", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 2)"), "shape has more than 8 dimensions"},
      {dict("'<f4'", "False", "(4294967296, 4294967296)"),
       "shape (4294967296, 4294967296) has more bytes than 63 bits can count"},
      {dict("'<f4'", "False", "(0, 4294967296, 4294967296)"),
       "shape (0, 4294967296, 4294967296) has more bytes than 63 bits can count"},
      {dict("'<f4'", "False", "(9223372036854775808,)"),
       "shape has a number that does not fit 63 bits"},
      {dict("'<f4'", "False", "(1000000000000,)"),
       "shape (1000000000000) of \"<f4\" needs 4000000000000 bytes of data, but the file has 8; it "
       "is truncated"},
      {dict("'<f4'", "False", "(-2,)"), damaged + "51 must be an integer >= 0; it is damaged"},
      {dict("'<f4'", "False", "(2)"), damaged + "52 must be \",\"; it is damaged"},
      {dict("'<f4'", "False", "(2L,)"), damaged + "52 must be \",\"; it is damaged"},
      {dict("'<f4'", "False", "[2]"), damaged + "50 must be \"(\"; it is damaged"},
      {dict("'<f4'", "0", "(2,)"), damaged + "34 must be True or False; it is damaged"},
      {dict("None", "False", "(2,)"), damaged + "10 must be a quoted string; it is damaged"},
      {"{'descr': '<f4", damaged + "10 must be a quoted string; it is damaged"},
      {"", damaged + "0 must be \"{\"; it is damaged"},
      {"{'descr': '<f4' 'shape': (2,)}", damaged + "16 must be \"}\"; it is damaged"},
      {dict("'<f4'", "False", "(2,)") + "x", damaged + "58 must be the end; it is damaged"},
      {"{'descr': '<f4', 'fortran_order': False}",
       "header must have the keys descr, fortran_order and shape"},
      {"{'descr': '<f4', 'descr': '<f4'}", "header has a duplicate key \"descr\""},
      {"{'descr': '<f4', 'more': 1}", "header has an unknown key \"more\""},
      {"{'descr': '<f4', '\xc3\x28': 1}", "header has an unknown key \"\\xc3(\""},  // no UTF-8
      {dict("'<f4\xff'", "False", "(2,)"),
       "dtype \"<f4\\xff\", must be \"<f4\" or \"<f8\"; save it with numpy.save(f, "
       "a.astype('<f4'))"},
      {"{'descr': \xff", damaged + "10 must be a quoted string; it is damaged"},
      {"\xff\xfe{", damaged + "0 must be \"{\"; it is damaged"},
  };
  for (const Broken& broken : cases) {
    EXPECT_THROW_MSG(parse_npy(npy(broken.bytes, floats(2)), "f"), DataError,
                     "npy: f: " + broken.message);
  }
}

TEST_F(NpyTest, RefusesEveryTruncation) {
  write_npy(path("a"), counting({3, 2}, at::kDouble));
  const std::string bytes = bytes_of(path("a"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(parse_npy(bytes.substr(0, size), "f"), DataError) << size;
  }
}

TEST_F(NpyTest, RefusesPathsThatAreNoFilesAndArraysItCannotHold) {
  EXPECT_THROW_MSG(read_npy(path("a")), DataError, "npy: " + path("a") + ": no such file");
  EXPECT_THROW_MSG(read_npy(folder_.path()), DataError,
                   "npy: " + folder_.path() + ": is a folder, must be a file");
  EXPECT_THROW_MSG(write_npy(folder_.path(), at::zeros({2})), DataError,
                   "write: " + folder_.path() + ": is a folder, must be a file name");
  EXPECT_THROW_MSG(write_npy(path("a"), at::zeros({2}, at::kLong)), ShapeError,
                   "npy: " + path("a") + ": dtype int64, must be float32 or float64");
  EXPECT_THROW_MSG(write_npy(path("a"), at::scalar_tensor(1.0)), ShapeError,
                   "npy: " + path("a") +
                       ": shape (), must have 1 to 8 dimensions >= 0 and fewer than 2^63 bytes");
}

TEST_F(NpyRowWriterTest, TilesMakeTheFileThatOneWriteMakes) {
  const Tensor x = counting({7, 2, 3}, at::kFloat);
  write_npy(path("a"), x);
  NpyRowWriter writer(path("b"), 7, {2, 3});
  writer.write(4, x.slice(0, 4, 7).to(at::kDouble));
  EXPECT_FALSE(std::filesystem::exists(path("b")));
  writer.write(0, x.slice(0, 0, 4));
  writer.write(7, x.slice(0, 0, 0));
  writer.finish();
  EXPECT_EQ(bytes_of(path("b")), bytes_of(path("a")));
  EXPECT_EQ(names().size(), 2U);
  EXPECT_THROW_MSG(writer.write(0, x), std::logic_error,
                   "npy: " + path("b") + ": written to after finish()");
}

TEST_F(NpyRowWriterTest, ResumeKeepsTheRowsWrittenBefore) {
  const Tensor x = counting({5, 2}, at::kFloat);
  NpyRowWriter(path("a"), 5, {2}).write(0, x.slice(0, 0, 3));
  NpyRowWriter writer(path("a"), 5, {2}, true);
  EXPECT_TRUE(writer.resumed());
  writer.write(3, x.slice(0, 3, 5));
  writer.finish();
  EXPECT_TRUE(same_bits(read_npy(path("a")), x));
}

TEST_F(NpyRowWriterTest, WithoutResumeAnOldPartialFileIsDiscarded) {
  NpyRowWriter(path("a"), 5, {2}).write(0, at::ones({5, 2}));
  NpyRowWriter writer(path("a"), 3, {2});
  EXPECT_FALSE(writer.resumed());
  writer.finish();
  EXPECT_TRUE(same_bits(read_npy(path("a")), at::zeros({3, 2})));
}

TEST_F(NpyRowWriterTest, ResumeSaysWhenThereWasNothingAndRefusesOtherRows) {
  {
    const NpyRowWriter writer(path("a"), 5, {2}, true);
    EXPECT_FALSE(writer.resumed());
  }
  EXPECT_THROW_MSG(NpyRowWriter(path("a"), 5, {3}, true), DataError,
                   "write: " + path("a.partial") +
                       ": holds other rows than float32 (5, 3), so it cannot be resumed; remove it "
                       "or start without resume");
}

TEST_F(NpyRowWriterTest, RefusesASecondWriterOfTheSameFile) {
  const NpyRowWriter first(path("a"), 5, {2});
  EXPECT_THROW_MSG(NpyRowWriter(path("a"), 5, {2}), DataError,
                   "write: " + path("a") + ": another process is writing " + path("a.partial"));
}

TEST_F(NpyRowWriterTest, RefusesRowsThatDoNotFit) {
  const std::string where = "npy: " + path("a") + ": ";
  NpyRowWriter writer(path("a"), 5, {2});
  EXPECT_THROW_MSG(writer.write(0, at::zeros({1, 3})), ShapeError,
                   where + "rows of shape (1, 3), must be (B, *event) with event shape (2)");
  EXPECT_THROW_MSG(writer.write(0, at::zeros({1, 2}, at::kLong)), ShapeError,
                   where + "rows of dtype int64, must be floating point");
  EXPECT_THROW_MSG(writer.write(4, at::zeros({2, 2})), ShapeError,
                   where + "2 rows from row 4 on, but the array has 5 rows");
  EXPECT_THROW_MSG(writer.write(-1, at::zeros({2, 2})), ShapeError,
                   where + "2 rows from row -1 on, but the array has 5 rows");
  EXPECT_THROW_MSG(
      NpyRowWriter(path("b"), -1, {2}), ShapeError,
      "npy: " + path("b") +
          ": shape (-1, 2), must have 1 to 8 dimensions >= 0 and fewer than 2^63 bytes");
  EXPECT_THROW_MSG(
      NpyRowWriter(path("none/b"), 1, {2}), DataError,
      "write: " + path("none/b") + ": folder " + path("none") + " does not exist; create it first");
}

}  // namespace
}  // namespace motet
