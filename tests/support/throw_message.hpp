// EXPECT_THROW_MSG(statement, Type, text): `statement` throws `Type`, whose what() is `text`, word
// for word.
#pragma once

#include <gtest/gtest.h>

#include <string>

#define EXPECT_THROW_MSG(statement, Type, text)                                   \
  try {                                                                           \
    (void)(statement);                                                            \
    ADD_FAILURE() << #statement " threw nothing; expected " #Type ": " << (text); \
  } catch (const Type& motet_error) {                                             \
    EXPECT_EQ(std::string(motet_error.what()), std::string(text));                \
  } catch (const std::exception& motet_error) {                                   \
    ADD_FAILURE() << #statement " threw another type: " << motet_error.what();    \
  }                                                                               \
  static_assert(true)
