SELECT email, id::text FROM public."user" WHERE email IN ('owner@demo.test', 'member@demo.test', 'outsider@demo.test');
