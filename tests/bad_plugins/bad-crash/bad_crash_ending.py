import os

os.write(2, b"the licence has expired\n")
os._exit(7)
