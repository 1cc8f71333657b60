// EXPECT_THROW_MSG(statement, Type, text): the statement throws Type with exactly this text.
#pragma once

#include <gtest/gtest.h>

#include <string>

#define EXPECT_THROW_MSG(statement, Type, text)                                           \
  do {                                                                                    \
    try {                                                                                 \
      statement;                                                                          \
      ADD_FAILURE() << #statement " threw nothing; expected " #Type ": " << (text);       \
    } catch (const Type& error) {                                                         \
      EXPECT_EQ(std::string(error.what()), std::string(text)) << "from " #statement;      \
    } catch (const std::exception& error) {                                               \
      ADD_FAILURE() << #statement " threw another type than " #Type ": " << error.what(); \
    }                                                                                     \
  } while (false)
