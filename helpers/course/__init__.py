"""The assignment handed out: a student edition, checks of each row, and a grader, from one source.

rows.py      the table: what the student writes, points, checks, hints
checks.py    what each check tries, and how the outcome is judged
sheet.py     numbers, right outcomes, and the files as a student gets them
source.py    Python source: functions taken out, and put in
pages.py     the notebooks of the student edition
handout.py   the student edition as a folder
runner.py    the process in which a student's functions run
examine.py   all checks of one student's files
flags.py     what may be typed after check, grade and handout
check.py     what is right so far, for the student
door.py      a single command, where the others are missing
grading.py   a pile of submissions, for the teacher
"""
