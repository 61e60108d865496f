"""Which C of Cython's counts as a condition of the source. See tests/coverage.py."""

import pytest
from tests.coverage import conditions_of_c

OWN = [
    "  if (__pyx_t_1) {",
    "  if (!__pyx_t_2) {",
    "    if (!__pyx_t_3) break;",
    "  if (unlikely(__pyx_t_4)) {",
    "  if (__pyx_v_self->is_closing) {",
    "  if ((__pyx_v_plan->is_plain[__pyx_v_field])) {",
    "  for (__pyx_t_5 = 0; __pyx_t_5 < __pyx_t_4; __pyx_t_5+=1) {",
    "  switch (__pyx_v_token.arg.type) {",
]
CYTHONS = [
    "  if (unlikely(!__pyx_t_1)) __PYX_ERR(0, 59, __pyx_L1_error)",
    "  if (unlikely(!__pyx_t_1)) {",
    "  __pyx_t_4 = f(); if (unlikely((__pyx_t_4 < 0))) __PYX_ERR(0, 59, __pyx_L1_error)",
    "    if (__pyx_kwds_len > 0) {",
    "      switch (__pyx_nargs) {",
    "  switch (__pyx_generator->resume_label) {",
    "  for (Py_ssize_t i = __pyx_nargs; i < 1; i++) {",
    "  if (likely(PyList_CheckExact(__pyx_v_items))) {",
    "  while (1) {",
]


def piece(*lines, number=7):
    return "\n".join(["x f() {", f'/* "online/core/lists.pyx":{number}', *lines, "}"])


@pytest.mark.parametrize("line", OWN)
def test_what_the_source_asks_is_a_condition(line):
    assert conditions_of_c(piece(line)) == {3: ("lists.pyx", 7, 0)}


@pytest.mark.parametrize("line", CYTHONS)
def test_what_cython_asks_is_none(line):
    assert conditions_of_c(piece(line)) == {}


def test_conditions_of_a_line_are_told_apart_in_the_order_of_the_c():
    assert conditions_of_c(piece(OWN[1], OWN[0]) + "\n" + piece(OWN[0], number=8)) == {
        3: ("lists.pyx", 7, 0),
        4: ("lists.pyx", 7, 1),
        8: ("lists.pyx", 8, 0),
    }


def test_a_loop_is_one_condition_whatever_it_goes_over():
    ends = ["  if (__pyx_t_1 >= __pyx_temp) break;", "  if (__pyx_t_1 >= __pyx_temp) break;"]
    iterator = ["  if (unlikely(!__pyx_t_2)) {", "    PyObject* exc_type = __Pyx_PyErr_CurrentExceptionType();"]
    found = conditions_of_c(piece("  for (;;) {", *ends, *iterator, OWN[0]))
    assert found == {**dict.fromkeys((4, 5, 6), ("lists.pyx", 7, 0)), 8: ("lists.pyx", 7, 1)}


def test_c_outside_of_a_piece_is_no_part_of_the_source():
    assert conditions_of_c(f"x f() {{\n{OWN[0]}\n}}\n{piece()}\n{OWN[0]}") == {}
